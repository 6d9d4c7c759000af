"""Lines and rows that were refused, one JSONL file per source, each with its reason."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.storage import storage_errors, write_atomically


@dataclass(frozen=True)
class Refused:
    r"""One refused line or row.

    Attributes
    ----------
    file
        The source, absolute.
    line
        Line (JSONL) or row (Parquet), counted from one; None when the whole file is refused.
    reason
        What is wrong: key path, value, limit.
    text
        The line as it stands; bytes that are no UTF-8 as \xNN.
    """

    file: str
    line: int | None
    reason: str
    text: str


def quarantine_path(folder: Path, source: Path) -> Path:
    """Where the refused lines of a source lie; the same for the same file, different for two of one name."""
    whole = Path(os.path.realpath(source)).as_posix()
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", source.name)[:80]
    return folder / f"{readable}-{hashlib.sha256(whole.encode(errors='surrogateescape')).hexdigest()[:12]}.jsonl"


def write_refused(path: Path, refused: Sequence[Refused]) -> None:
    """Put a source's refused lines in place of those of the last ingest; none removes the file.

    Raises
    ------
    StorageError
        The folder cannot be written.
    """
    if refused:
        write_atomically(path, lambda temporary: _write(temporary, refused))
    else:
        with storage_errors(path):
            path.unlink(missing_ok=True)


def as_text(line: bytes) -> str:
    r"""A line as text; what is no UTF-8 is written as \xNN."""
    return line.decode("utf-8", errors="backslashreplace")


def _write(path: Path, refused: Sequence[Refused]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for entry in refused:
            stream.write(json.dumps(asdict(entry)) + "\n")
