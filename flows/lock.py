"""One run at a time may write a data folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.errors import StorageError
from pipelines.layout import DataLayout
from pipelines.storage import storage_errors


@contextmanager
def exclusive(layout: DataLayout) -> Iterator[None]:
    """Hold the data folder's lock; the operating system frees it when the process dies.

    Raises
    ------
    StorageError
        Another run holds it, or the folder cannot be written.
    """
    with storage_errors(layout.root):
        layout.root.mkdir(parents=True, exist_ok=True)
        handle = layout.lock.open("a+")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise StorageError(
                f"{layout.root} is in use by process {handle.read().strip() or 'unknown'}",
                remedy="wait for that run to end, or name another folder with --data",
            ) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
