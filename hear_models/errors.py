"""The one family of errors: a sentence on what is wrong, a sentence on what to do."""


class HearModelsError(Exception):
    """Base of every error that this package raises on purpose; the command line exits with `exit_code`."""

    exit_code = 1


class UsageError(HearModelsError):
    """Wrong use: an unknown name, an argument out of range, a missing extra."""

    exit_code = 2


class InputError(HearModelsError, ValueError):
    """Audio handed to a model is not what the HEAR API asks for (rank, dtype, NaN, empty)."""

    exit_code = 2


class AudioFileError(HearModelsError):
    """A recording could not be read or decoded."""


class FileError(HearModelsError):
    """A file cannot be read or written: not there, no permission, no space."""


class CheckpointError(HearModelsError):
    """A weights file is broken, altered, of another family, or does not fit its configuration."""


class AudioWarning(UserWarning):
    """A recording was read, but something about it is odd: it may not be what its owner believes."""
