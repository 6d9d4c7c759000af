"""Writing files so that a reader sees the old one or the new one, never half of either."""

from __future__ import annotations

import datetime as dt
import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import StorageError

_REMEDIES = {
    errno.ENOSPC: "free some space and run again; nothing that was there is lost",
    errno.EDQUOT: "free some space and run again; nothing that was there is lost",
    errno.EROFS: "mount the folder writable or choose another with --data",
    errno.EACCES: "give this user the right to write there or choose another folder with --data",
    errno.EPERM: "give this user the right to write there or choose another folder with --data",
    errno.EEXIST: "a file stands where a folder is needed; move it or choose another with --data",
    errno.ENOTDIR: "a file stands where a folder is needed; move it or choose another with --data",
    errno.EEXIST: "a file stands where a folder is needed; move it or choose another with --data",
    errno.EISDIR: "a folder stands where a file is needed; move it or choose another with --data",
}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an operating-system error into a `StorageError` that names the path and a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        raise StorageError(f"cannot write {path}: {error.strerror}", remedy=_REMEDIES[error.errno]) from error


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary neighbour of `path`, then put it in place in one step.

    Parameters
    ----------
    path
        The file to replace; its folder is made when missing.
    write
        Called with the temporary path. When it raises, `path` is left as it was.

    Raises
    ------
    StorageError
        Disk full, read-only folder or missing rights.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            temporary.chmod(0o644)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def require_space(folder: Path, megabytes: int) -> None:
    """Refuse to begin work that a nearly full disk would break off, half of it in libraries that say less about it.

    Raises
    ------
    StorageError
        Less than `megabytes` are free where `folder` lies.
    """
    free = shutil.disk_usage(folder).free // 1_000_000
    if free < megabytes:
        raise StorageError(
            f"{folder}: {free} MB free", limit=f"at least {megabytes} MB (paths.min_free_mb)", remedy="free some space and run again"
        )


def write_text(path: Path, text: str) -> None:
    """Replace a UTF-8 text file atomically."""
    write_atomically(path, lambda temporary: _write_text(temporary, text))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a binary file atomically."""
    write_atomically(path, lambda temporary: _write_bytes(temporary, content))


def write_json(path: Path, content: Any) -> None:
    """Write `json_text` atomically."""
    write_text(path, json_text(content))


def json_text(content: Any) -> str:
    """Write JSON, keys in the order given; the same content gives the same text.

    NumPy values become plain ones, times ISO 8601; NaN and infinity, which JSON lacks, become null.
    """
    return json.dumps(plain(content), indent=1, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Bring nested results to what JSON knows."""
    match value:
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case float() if not math.isfinite(value):
            return None
        case dt.date():
            return value.isoformat()
    # NumPy arrays and scalars know their plain value; asking for it keeps NumPy out of this module.
    return plain(value.tolist()) if hasattr(value, "tolist") else value


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
