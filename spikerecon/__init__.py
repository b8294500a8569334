"""Pictures and high-frame-rate video from spike camera recordings."""

__version__ = "0.1.0"
