"""What one run came to, for the terminal, for programs and for the Prefect page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

UNCHANGED = "The bot trades on with its own rules, unchanged."


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
    ladder
        One map per family: `family`, `title`, `state`, `sentence`.
    failures
        Why a family, or a model ("family/target"), could not be trained.
    models
        One map per model, those of one target together: `family`, `title`, `target`, `score_name`,
        `out_of_fold` (mean), `deviation`, `test_score`, `best` (out of fold, of its target),
        `candidate`, `refused_by`, `version`. A number that does not exist is None.
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
    ladder: tuple[dict[str, Any], ...]
    failures: dict[str, str]
    models: tuple[dict[str, Any], ...]
    verdicts: tuple[dict[str, Any], ...]
    registered: tuple[dict[str, Any], ...]
    report: Path

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content."""
        return asdict(self) | {"ladder": list(self.ladder), "report": str(self.report)}
