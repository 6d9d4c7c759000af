"""Errors that a person can act on: what was found, what is allowed, what to do about it."""


class AmiralError(Exception):
    """A problem with an input or the environment, not a bug.

    Parameters
    ----------
    message
        What is wrong, with the value that was found.
    limit
        What would have been accepted.
    remedy
        What the user can do next.

    Examples
    --------
    >>> print(AmiralError("3 bars", limit="at least 50", remedy="give a longer file"))
    3 bars; expected at least 50; remedy: give a longer file
    """

    def __init__(self, message: str, *, limit: str = "", remedy: str = "") -> None:
        self.message = message
        self.limit = limit
        self.remedy = remedy
        parts = [message]
        if limit:
            parts.append(f"expected {limit}")
        if remedy:
            parts.append(f"remedy: {remedy}")
        super().__init__("; ".join(parts))


class SettingsError(AmiralError):
    """`params.yaml` holds an unknown key, a wrong type or an impossible value."""


class InputError(AmiralError):
    """A file or folder of input data cannot be used as a whole."""


class DataRefusedError(AmiralError):
    """The data are readable, but a gate on them (quality, sufficiency) stops the run."""


class StorageError(AmiralError):
    """The data folder cannot be written (disk full, read-only, locked by another run)."""
