"""What the page of one run shows, and its first lines."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.report import text
from models.results import Evaluation, GateResult, Verdict
from pipelines.drift.evidently_report import DriftSummary


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
    *others, last = (model.name for model in promoted)
    names = f"{', '.join(others)} and {last}" if others else last
    verb = "is a candidate" if len(promoted) == 1 else "are candidates"
    return Headline("promoted", f"{len(promoted)} of {_count(len(content.models))} passed every gate: {names} {verb}.", tuple(details))


UNCHANGED = "The bot trades on with its own rules, unchanged."


def _count(models: int) -> str:
    return f"{models} model" if models == 1 else f"{models} models"
