"""What lies in a data folder, read without running anything.

A run that was broken off leaves new files of its first stages beside old ones of its last. Nothing
here mixes the two: what does not belong to the present dataset is said to be of an earlier run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from flows.context import damage
from pipelines.layout import DataLayout
from pipelines.settings import FAMILIES

EARLIER = "of an earlier run"

T = TypeVar("T")


def read_status(layout: DataLayout) -> dict[str, Any]:
    """Gather the present state; what is not there yet is None, and a family without files is left out.

    Raises
    ------
    InputError
        The file of a stage is damaged; the message names it.
    """
    dataset = _read(layout.dataset / "card.json", lambda content: str(content["content_hash"]))
    found = {str(family): _read(layout.training(family), _training) for family in FAMILIES}
    trainings = {family: training for family, training in found.items() if training is not None}
    verdicts = _read(layout.gates, lambda content: {_name(item): _verdict(item) for item in _list(content)}) or {}
    registered = _read(layout.registered, lambda content: {_name(item): _entry(item) for item in _list(content)}) or {}
    fresh = {family: training["dataset_hash"] == dataset for family, training in trainings.items()}
    current = {name for name, verdict in verdicts.items() if _judged(name, verdict, trainings, fresh)}
    report = _latest_report(layout)
    return {
        "source": _read(layout.ingest, lambda content: content["source"]),
        "trades": _trades(layout.trades / "outcomes.parquet"),
        "quality": _read(layout.quality, lambda content: content["grade"]),
        "dataset": dataset,
        "families": {family: _marked(training["text"], now=fresh[family]) for family, training in trainings.items()},
        "verdicts": {name: _marked(verdict["text"], now=name in current) for name, verdict in verdicts.items()},
        "registered": {
            name: _marked(outcome, now=name in current and reasons == verdicts[name]["reasons"])
            for name, (outcome, reasons) in registered.items()
        },
        "quarantined files": sorted(path.name for path in layout.quarantine.glob("*.jsonl")),
        "latest report": None if report is None else str(report),
        "report is of": None if report is None else _report_of(report, dataset),
    }


def _training(content: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a family, and what tells whether a verdict is about these models."""
    state, failures, models = content["state"], content["failures"], content["models"]
    count = f"{len(models)} {'model' if len(models) == 1 else 'models'}"
    broken = "; ".join(f"{target} failed: {reason}" for target, reason in failures.items())
    said = [content["reason"], broken] if state != "trained" else [count, broken]
    return {
        "text": f"{'partly failed' if state == 'trained' and failures else state}: {'; '.join(part for part in said if part)}",
        "dataset_hash": content["dataset_hash"],
        "scores": {target: found["test_score"] for target, found in models.items()},
    }


def _verdict(content: Mapping[str, Any]) -> dict[str, Any]:
    gates = content["gates"]
    refused = [gate["name"] for gate in gates if not gate["passed"]]
    return {
        "text": "candidate" if content["candidate"] else "refused: " + ", ".join(refused),
        "reasons": [gate["reason"] for gate in gates if not gate["passed"]],
        "test_scores": [gate["value"] for gate in gates if gate["name"] == "test_score"],
    }


def _entry(content: Mapping[str, Any]) -> tuple[str, list[str]]:
    return content["outcome"], content["reasons"]


def _judged(name: str, verdict: Mapping[str, Any], trainings: Mapping[str, Any], fresh: Mapping[str, bool]) -> bool:
    """Whether a verdict is on the model that lies there now: one of the present dataset, with the score that was judged."""
    family, _, target = name.partition("/")
    if family not in trainings or not fresh[family] or target not in trainings[family]["scores"]:
        return False
    return all(score == trainings[family]["scores"][target] for score in verdict["test_scores"])


def _list(content: Any) -> list[Any]:
    if not isinstance(content, list):
        raise TypeError(f"it holds {type(content).__name__} and not a list")
    return content


def _name(item: Mapping[str, Any]) -> str:
    return f"{item['family']}/{item['target']}"


def _marked(text: str, *, now: bool) -> str:
    return text if now else f"{text} ({EARLIER})"


def _latest_report(layout: DataLayout) -> Path | None:
    pages = sorted(layout.reports.glob("*/index.html"), key=lambda page: page.stat().st_mtime)
    return pages[-1] if pages else None


def _report_of(page: Path, dataset: str | None) -> str:
    # A run's folder begins with the first ten digits of its dataset's hash.
    return "the present dataset" if dataset and page.parent.name.startswith(dataset[:10]) else "an earlier run"


def _trades(path: Path) -> int | None:
    import pyarrow.parquet as parquet

    if not path.exists():
        return None
    with damage(path):
        rows: int = parquet.read_metadata(path).num_rows
    return rows


def _read(path: Path, take: Callable[[Any], T]) -> T | None:
    """Take what is needed from a stage's JSON file; None when the stage has not run."""
    if not path.exists():
        return None
    with damage(path):
        return take(json.loads(path.read_text(encoding="utf-8")))
