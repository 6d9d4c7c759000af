"""The report of one run: a single HTML page that needs nothing else, and the same as JSON.

The page answers in this order: what was promoted or why nothing was, what data it rests on, how
good they are, what the models found, whether it would have earned anything, and what these
numbers do and do not mean. It has no script and loads nothing, so it can be mailed and kept.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from flows import report_text as text
from flows.report_figures import Figures, figures
from models.results import Evaluation, GateResult, Verdict
from pipelines.drift.evidently_report import DriftSummary
from pipelines.settings import Report
from pipelines.storage import write_text

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class LabelBalance:
    """How many trades carry the positive label of one target."""

    target: str
    meaning: str
    positive: int
    total: int

    @property
    def share(self) -> float | None:
        """Positive / total; None without trades."""
        return self.positive / self.total if self.total else None


@dataclass(frozen=True)
class ModelSection:
    """One trained model on the page.

    Attributes
    ----------
    evaluation, verdict
        How it scored, and what the gates say.
    outcome
        What the registry did, in words: "registered as version 3" or "not registered: ...".
    version
        Version in the registry, when it was registered.
    labels
        Shape of `evaluation.test_rows`: the values of the target `evaluation.judged_on`; None leaves
        the calibration figure out.
    """

    evaluation: Evaluation
    verdict: Verdict
    outcome: str
    version: str | None = None
    labels: NDArray[np.float64] | None = None

    @property
    def name(self) -> str:
        """Target in words."""
        return text.words(self.evaluation.target)

    @property
    def failed(self) -> tuple[GateResult, ...]:
        """The gates that refused."""
        return tuple(gate for gate in self.verdict.gates if not gate.passed)


@dataclass(frozen=True)
class ReportContent:
    """All that the page shows; whatever is None or empty is said to be missing, never invented.

    Attributes
    ----------
    run_id, created, git_commit
        Which run, when (UTC), of which code.
    source, source_notes
        Where the data came from, in words.
    simulated
        Whether the trades come from the synthetic market.
    replay, ingest, quality, dataset
        Reports of these stages as maps; `quality` may hold `grade` and a list `checks`.
    labels
        Label balance per target.
    not_trained
        Why no model was trained.
    models
        One entry per trained model.
    test_times
        Decision times (UTC) of the test part's trades, in the order of `Evaluation.test_rows`.
    drift, drift_page
        The drift summary, and the file name of Evidently's page beside index.html.
    thresholds
        The gates' settings.
    """

    run_id: str
    created: dt.datetime
    git_commit: str
    source: str
    simulated: bool
    source_notes: tuple[str, ...] = ()
    replay: Mapping[str, Any] | None = None
    ingest: Mapping[str, Any] | None = None
    quality: Mapping[str, Any] | None = None
    dataset: Mapping[str, Any] | None = None
    labels: tuple[LabelBalance, ...] = ()
    not_trained: str | None = None
    models: tuple[ModelSection, ...] = ()
    test_times: NDArray[np.datetime64] | None = None
    drift: DriftSummary | None = None
    drift_page: str | None = None
    thresholds: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Headline:
    """The first line of the page and the sentences under it."""

    tone: str
    title: str
    details: tuple[str, ...]


def render(content: ReportContent, settings: Report) -> str:
    """Write the page as HTML; the same content gives the same bytes."""
    drawn: Figures = figures(content.models, content.test_times, settings)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            c=content,
            headline=headline(content),
            figures=drawn,
            facts=_fact_groups(content),
            checks=text.table((content.quality or {}).get("checks") or ()),
            thresholds=text.facts(content.thresholds),
        )
    )


def write_report(content: ReportContent, folder: Path, settings: Report) -> Path:
    """Write `index.html` and `report.json` into the run's folder; returns the page's path.

    Raises
    ------
    StorageError
        Disk full or read-only folder.
    """
    page = folder / "index.html"
    write_text(page, render(content, settings))
    write_text(folder / "report.json", json.dumps(as_json(content), indent=2, sort_keys=True, allow_nan=False) + "\n")
    return page


def headline(content: ReportContent) -> Headline:
    """Say in plain words what was promoted, or why nothing was."""
    promoted = [model for model in content.models if model.verdict.candidate]
    refused = [model for model in content.models if not model.verdict.candidate]
    if not content.models:
        return Headline("none", "Nothing was trained.", (content.not_trained or "No model reached training.", UNCHANGED))
    details = [f"{model.name}: {model.outcome}" for model in promoted]
    for model in refused:
        count, total = len(model.failed), len(model.verdict.gates)
        details.append(f"{model.name}: refused by {count} of {total} gates ({', '.join(text.words(gate.name) for gate in model.failed)})")
    if not promoted:
        return Headline("refused", f"No candidate: {_count(len(refused))} trained, none passed every gate.", (*details, UNCHANGED))
    names = " and ".join(model.name for model in promoted)
    verb = "is a candidate" if len(promoted) == 1 else "are candidates"
    return Headline("promoted", f"{len(promoted)} of {_count(len(content.models))} passed every gate: {names} {verb}.", tuple(details))


UNCHANGED = "The bot trades on with its own rules, unchanged."


def as_json(content: ReportContent) -> dict[str, Any]:
    """The content as plain JSON values; predictions and per-trade arrays are left to their own files."""
    head = headline(content)
    return {
        "run_id": content.run_id,
        "created": content.created.isoformat(),
        "git_commit": content.git_commit,
        "source": content.source,
        "source_notes": list(content.source_notes),
        "simulated": content.simulated,
        "headline": {"tone": head.tone, "title": head.title, "details": list(head.details)},
        "not_trained": content.not_trained,
        **{name: _json_value(getattr(content, name)) for name in ("replay", "ingest", "quality", "dataset", "thresholds")},
        "labels": [asdict(label) | {"share": label.share} for label in content.labels],
        "models": [_model_json(model) for model in content.models],
        "drift": _json_value(content.drift.as_dict()) if content.drift else None,
    }


def _model_json(model: ModelSection) -> dict[str, Any]:
    evaluation = model.evaluation
    scalars = ("target", "family", "kind", "judged_on", "fold_scores", "fold_train_scores", "train_score", "validation_score", "test_score")
    maps = ("metrics", "baselines", "coefficients", "rows")
    return {
        **{name: _json_value(getattr(evaluation, name)) for name in (*scalars, *maps)},
        "candidate": model.verdict.candidate,
        "gates": [_json_value(asdict(gate)) for gate in model.verdict.gates],
        "outcome": model.outcome,
        "version": model.version,
        "test_performance": {
            "baseline": _json_value(asdict(evaluation.baseline_performance)),
            "policy": _json_value(asdict(evaluation.policy_performance)),
        },
    }


def _json_value(value: Any) -> Any:
    """Make a value JSON-able; a number that is not finite becomes null."""
    match value:
        case Mapping():
            return {str(key): _json_value(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_json_value(inner) for inner in value]
        case np.ndarray() | np.generic():
            return _json_value(value.tolist())
        case float():
            return value if math.isfinite(value) else None
        case dt.datetime() | dt.date():
            return value.isoformat()
        case None | bool() | int() | str():
            return value
    return str(value)


def _fact_groups(content: ReportContent) -> dict[str, list[tuple[str, str]]]:
    return {
        "Replay": text.facts(content.replay),
        "Ingest": text.facts(content.ingest),
        "Dataset": text.facts(content.dataset, leave_out=("features", "positive_share")),
        "Quality": text.facts(content.quality, leave_out=("checks", "grade")),
    }


def _count(models: int) -> str:
    return f"{models} model" if models == 1 else f"{models} models"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=text.number, percent=text.percent, usd=text.usd, words=text.words)
    return environment
