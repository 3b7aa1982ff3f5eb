"""Exceptions of the package. Every message is one line: what was found, what was expected, what to do."""


class PyruntimeError(Exception):
    """Base of every error this package raises on purpose."""


class ModelError(PyruntimeError):
    """A model (ONNX or a program) that cannot be handled; names the node or tensor."""


class DataError(PyruntimeError):
    """Calibration or evaluation data that does not fit the model; names the array."""


class OptionError(PyruntimeError):
    """An option, specification or recipe that is not understood; names the option."""


class FileFormatError(PyruntimeError):
    """A file that is missing, damaged or of another kind; names the file and the item."""
