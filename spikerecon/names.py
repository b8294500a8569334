"""What users choose by name. It imports nothing, so that the command line's help needs no numpy and no torch."""

METHODS = ("stir", "tfp", "tfi", "tfstp")
PRECISIONS = ("float32", "bfloat16", "float16")  # or auto
LAYOUT_NAMES = ("auto", "packed", "row-headers", "raw1000", "npz", "spikelink")
BAYER_PATTERNS = ("bggr", "rggb", "gbrg", "grbg")
CODECS = ("h264", "h264-lossless", "h264-nvenc", "ffv1")
MODELLED = ("lpips", "niqe", "brisque")  # measures by models; of each, the lower, the better
