"""What an ingest found and did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipelines.snapshots.merge import Counts
from pipelines.snapshots.store import StoreCounts


@dataclass(frozen=True)
class FileReport:
    """What one file gave.

    Attributes
    ----------
    path
        Absolute.
    signals, outcomes
        Valid records.
    refused
        Lines or rows that went to quarantine.
    pending_bytes
        Length of a last line that is still being written; the next ingest reads it.
    problem
        Why the file was not (or not wholly) read; None when it was.
    """

    path: str
    signals: int
    outcomes: int
    refused: int
    pending_bytes: int
    problem: str | None


@dataclass(frozen=True)
class IngestReport:
    """What an ingest found in its sources, and what the store holds after it.

    Attributes
    ----------
    files
        Per file, sorted by path.
    ignored
        Files with another ending, what is no regular file, folders that cannot be listed.
    signals, outcomes
        What became of the valid records.
    store
        What the store holds now.
    """

    files: tuple[FileReport, ...]
    ignored: tuple[str, ...]
    signals: Counts
    outcomes: Counts
    store: StoreCounts

    @property
    def records(self) -> int:
        """Valid records that came in."""
        return self.signals.records + self.outcomes.records

    @property
    def duplicates(self) -> int:
        """Exact copies among them; what the store held before does not count."""
        return self.signals.duplicates + self.outcomes.duplicates

    @property
    def refused(self) -> int:
        """Lines and rows in quarantine, faulty pairs not counted."""
        return sum(file.refused for file in self.files)

    @property
    def pending_bytes(self) -> int:
        """Bytes of last lines that are still being written."""
        return sum(file.pending_bytes for file in self.files)

    @property
    def problems(self) -> tuple[FileReport, ...]:
        """Files that were not (or not wholly) read."""
        return tuple(file for file in self.files if file.problem is not None)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain JSON-able values."""
        totals = {"records": self.records, "duplicates": self.duplicates, "refused": self.refused, "pending_bytes": self.pending_bytes}
        return totals | asdict(self)
