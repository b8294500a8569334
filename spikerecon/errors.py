"""Everything that can go wrong for a user, as exceptions that carry the exit status of the command line.

Messages are one line: what is wrong, where, and what to do about it.
"""


class SpikeReconError(Exception):
    """Base of all errors raised on purpose. `exit_status` is what the command line ends with."""

    exit_status = 1


class UsageError(SpikeReconError):
    """What was asked for makes no sense: an unknown name, a value out of range, options at odds."""

    exit_status = 2


class RecordingError(SpikeReconError):
    """A recording, a video, a picture or a list of sequences cannot be read: missing, empty, damaged, too short, of
    unknown size or layout."""


class WeightsError(SpikeReconError):
    """A weights file cannot be used: missing, damaged, of another network, unsafe to load."""


class DeviceError(SpikeReconError):
    """A device was asked for that is not there, or it ran out of memory."""


class OutputError(SpikeReconError):
    """Output cannot be made: it exists already, the encoder failed, the disk is full, a library is not installed."""


class RecordingWarning(UserWarning):
    """Something about a recording that the user should know but that does not stop the work."""
