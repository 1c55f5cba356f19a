"""Define errors that a user can cure; each message names the problem and the cure in one line."""


class CoordfitError(Exception):
    """Base of all errors raised on purpose by `coordfit`."""


class ConfigError(CoordfitError, ValueError):
    """Raised for an option that does not exist, or has a value that cannot be used."""


class SignalError(CoordfitError):
    """Raised for an array, or a file of one, that cannot be used."""


class PictureError(SignalError):
    """Raised for a picture that cannot be read, written, or used."""


class ModelFileError(CoordfitError):
    """Raised for a model file that is missing, damaged, or not from `coordfit`."""


class CompressedFileError(CoordfitError):
    """Raised for a compressed picture that is missing, damaged, or not from `coordfit`."""


class OutputError(CoordfitError):
    """Raised if a result cannot be written."""


class NotEnoughMemoryError(CoordfitError, MemoryError):
    """Raised before a run that needs more memory than is free."""
