"""The errors that a user can cause and cure; each message names the thing and the cure in one line."""


class CoordfitError(Exception):
    """Base of all errors raised on purpose by `coordfit`."""


class ConfigError(CoordfitError, ValueError):
    """An option has a value that cannot be used, or an option of that name does not exist."""


class PictureError(CoordfitError):
    """A picture cannot be read, written, or used."""


class ModelFileError(CoordfitError):
    """A model file is missing, damaged, or was not written by `coordfit`."""


class CompressedFileError(CoordfitError):
    """A compressed picture is missing, damaged, or was not written by `coordfit`."""


class OutputError(CoordfitError):
    """A result cannot be written where it was asked for."""


class NotEnoughMemoryError(CoordfitError, MemoryError):
    """A run needs more memory than is free; said before any of it is asked for."""
