"""Which files an ingest reads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import InputError

ENDINGS = (".jsonl", ".parquet")
"""Endings of files that can hold snapshots."""

_NOT_REGULAR = "no regular file"


@dataclass(frozen=True)
class Found:
    """What lies in the sources.

    Attributes
    ----------
    files
        To be read: absolute, sorted, each once.
    ignored
        Files with another ending, what is no regular file (a pipe, a link to nowhere), and folders that cannot be listed.
    """

    files: tuple[Path, ...]
    ignored: tuple[str, ...]


def find(sources: Sequence[Path], leave_out: Sequence[Path]) -> Found:
    """List the files of the sources.

    Parameters
    ----------
    sources
        Files, or folders that are searched to the bottom. Names that begin with a dot are skipped.
        None at all is no error: then nothing is read.
    leave_out
        Folders that Amiral writes itself: what was refused must not come in again.

    Raises
    ------
    InputError
        A source does not exist, is no regular file or has another ending, or there is nothing to read.
    """
    files: set[Path] = set()
    ignored: set[str] = set()
    own = {os.path.realpath(folder) for folder in leave_out}
    for source in sources:
        if source.is_dir():
            for path in _walk(os.path.realpath(source), own, ignored):
                if path.suffix not in ENDINGS:
                    ignored.add(str(path))
                elif not os.path.isfile(path):
                    ignored.add(f"{path}: {_NOT_REGULAR}")
                else:
                    files.add(path)
        elif not source.exists():
            raise InputError(f"{source} does not exist", remedy="name a file or folder of snapshots")
        elif not os.path.isfile(source):
            raise InputError(f"{source} is {_NOT_REGULAR}", remedy="name a file or folder of snapshots")
        elif source.suffix not in ENDINGS:
            raise InputError(f"{source} ends in {source.suffix or 'nothing'}", limit=" or ".join(ENDINGS))
        else:
            # A link keeps its own name: what it leads to (a cache, say) need not have the ending.
            files.add(Path(os.path.realpath(source.parent)) / source.name)
    if sources and not files:
        named = ", ".join(map(str, sources))
        raise InputError(
            f"{named}: no file to ingest ({len(ignored)} ignored)",
            limit="at least one " + " or ".join(ENDINGS),
            remedy="let the bot write its snapshots there, or name another folder",
        )
    return Found(tuple(sorted(files)), tuple(sorted(ignored)))


def _walk(folder: str, own: set[str], ignored: set[str]) -> Iterator[Path]:
    def unlistable(error: OSError) -> None:
        ignored.add(f"{error.filename}: {error.strerror}")

    for name, folders, names in os.walk(folder, onerror=unlistable):
        here = Path(name)
        folders[:] = [sub for sub in folders if not sub.startswith(".") and os.path.realpath(here / sub) not in own]
        if os.path.realpath(here) in own:
            continue
        yield from (here / entry for entry in names if not entry.startswith("."))
