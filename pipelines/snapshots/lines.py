"""The lines of a JSONL file that another program may still be writing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes
    ----------
    number
        Counted from one.
    text
        Without the end of line; of a line over the limit only the beginning.
    size
        Bytes of the whole line without its end.
    ended
        Whether an end of line follows; only the last line of a file may lack it.
    """

    number: int
    text: bytes
    size: int
    ended: bool


def read_lines(path: Path, max_line_bytes: int) -> Iterator[Line]:
    """Yield the lines of a file; never more than `max_line_bytes` of one is held.

    Raises
    ------
    OSError
        The file cannot be opened or read.
    """
    with path.open("rb") as stream:
        number = 0
        while piece := stream.readline(max_line_bytes + 1):
            number += 1
            ended = piece.endswith(b"\n")
            text = piece[:-1] if ended else piece
            size = len(text)
            if size > max_line_bytes:
                rest, ended = _skip_line(stream, max_line_bytes)
                size += rest
            if number == 1:
                text = text.removeprefix(_BYTE_ORDER_MARK)
            yield Line(number, text, size, ended)


def _skip_line(stream: BinaryIO, step: int) -> tuple[int, bool]:
    """Go to the end of the line; bytes left behind and whether an end was there."""
    size = 0
    while piece := stream.readline(step):
        if piece.endswith(b"\n"):
            return size + len(piece) - 1, True
        size += len(piece)
    return size, False
