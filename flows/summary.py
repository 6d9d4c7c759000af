"""What one run came to, for the terminal, for programs and for the Prefect page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunSummary:
    """The end of a run.

    Attributes
    ----------
    run_id
        Folder name of the report; the same data, settings and code give the same one.
    source
        Where the trades came from, in words.
    headline, details
        What was promoted or why nothing was.
    trades
        Closed trades in the dataset.
    grade
        Data-quality grade.
    dataset_hash
        Content hash of the dataset; empty when there was none.
    verdicts
        Every model's gates.
    registered
        What the registry did with every model.
    report
        The page.
    """

    run_id: str
    source: str
    headline: str
    details: tuple[str, ...]
    trades: int
    grade: str
    dataset_hash: str
    verdicts: tuple[dict[str, Any], ...]
    registered: tuple[dict[str, Any], ...]
    report: Path

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content."""
        return asdict(self) | {"report": str(self.report)}
