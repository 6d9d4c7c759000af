"""What the page of one run shows, and its first lines."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flows.report import text
from flows.summary import UNCHANGED
from models.results import Evaluation, GateResult, Verdict
from pipelines.drift.evidently_report import DriftSummary

if TYPE_CHECKING:
    from models.explain import Importance, Shift

TRAINED, NOT_YET, FAILED, PARTLY_FAILED = "trained", "not yet", "failed", "partly failed"
STATES = (TRAINED, NOT_YET, FAILED, PARTLY_FAILED)
"""What can become of a family in a run."""

MOST_NAMES = 4
"""Names that the headline still lists one by one."""


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
class RungRow:
    """One family of the ladder.

    Attributes
    ----------
    family, title
        The family, as in the settings and for people.
    state
        One of `STATES`.
    sentence
        What came of it: how many models, how many trades are missing, or what failed.
    """

    family: str
    title: str
    state: str
    sentence: str


@dataclass(frozen=True)
class FailureRow:
    """A family (`target` is None) or one of its models that could not be trained."""

    family: str
    title: str
    target: str | None
    reason: str

    @property
    def name(self) -> str:
        """`family` or `family/target`."""
        return self.family if self.target is None else f"{self.family}/{self.target}"


@dataclass(frozen=True)
class ModelSection:
    """One trained model on the page.

    Attributes
    ----------
    evaluation, verdict
        How it scored, and what the gates say.
    outcome
        What the registry did, in words: "registered as version 3" or "not registered: ...".
    title
        The family in words.
    version
        Version in the registry, when it was registered.
    labels
        Shape of `evaluation.test_rows`: what the predictions are held against, which is the label for a
        probability and the values of `evaluation.judged_on` otherwise; None leaves the figure out.
    times
        Shape of `evaluation.test_rows`: decision times (UTC). Models need not share their test rows.
    importance
        How much each input matters; None when it was not explained.
    shifts, previous
        Importances against those of the previous version in the registry, and that version; empty
        and None when there is none.
    """

    evaluation: Evaluation
    verdict: Verdict
    outcome: str
    title: str
    version: str | None = None
    labels: NDArray[np.float64] | None = None
    times: NDArray[np.datetime64] | None = None
    importance: Importance | None = None
    shifts: tuple[Shift, ...] = ()
    previous: str | None = None

    @property
    def target(self) -> str:
        """Target in words."""
        return text.words(self.evaluation.target)

    @property
    def name(self) -> str:
        """Family and target in words: "Random forest profitability"."""
        return f"{self.title} {self.target}"

    @property
    def failed(self) -> tuple[GateResult, ...]:
        """The gates that refused."""
        return tuple(gate for gate in self.verdict.gates if not gate.passed)

    @property
    def flagged(self) -> tuple[Shift, ...]:
        """The shifts that call for a look."""
        return tuple(shift for shift in self.shifts if shift.flagged)


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
    ladder
        One entry per family of the settings, simplest first.
    failures
        What could not be trained.
    models
        One entry per trained model, in the order of the ladder.
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
    ladder: tuple[RungRow, ...] = ()
    failures: tuple[FailureRow, ...] = ()
    models: tuple[ModelSection, ...] = ()
    drift: DriftSummary | None = None
    drift_page: str | None = None
    thresholds: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Headline:
    """The first line of the page and the sentences under it; the tone is promoted, refused, failed or none."""

    tone: str
    title: str
    details: tuple[str, ...]


def headline(content: ReportContent) -> Headline:
    """Say in plain words what was promoted, or why nothing was, and what failed."""
    promoted = [model for model in content.models if model.verdict.candidate]
    refused = [model for model in content.models if not model.verdict.candidate]
    broken = failure_subject(content.failures)
    failed = failure_sentences(content.failures)
    if not content.models:
        waiting = tuple(row.sentence for row in content.ladder if row.state == NOT_YET)
        reasons = waiting or ((content.not_trained,) if content.not_trained else ())
        if failed:
            return Headline("failed", f"Nothing was trained: {broken} failed.", (*failed, *waiting, UNCHANGED))
        return Headline("none", "Nothing was trained.", (*(reasons or ("No model reached training.",)), UNCHANGED))
    details = [f"{model.name}: {model.outcome}" for model in promoted] + _refusals(refused)
    if promoted:
        tone, title = "promoted", f"{len(promoted)} of {_count(len(content.models))} passed every gate: {_candidates(promoted)}."
    else:
        tone, title = "refused", f"No candidate: {_count(len(refused))} trained, none passed every gate."
        details.append(UNCHANGED)
    if failed:
        tone, title, details = "failed", f"{title} {broken[0].upper()}{broken[1:]} failed.", [*failed, *details]
    return Headline(tone, title, tuple(details))


def failure_subject(failures: Sequence[FailureRow]) -> str:
    """Name in a few words what failed: families whole, single models, or how many models; empty when nothing failed."""
    whole = {row.family for row in failures if row.target is None}
    subjects: list[str] = []
    for family, rows in _by_family(failures).items():
        if family in whole:
            subjects.append(rows[0].title)
        elif len(rows) == 1:
            subjects.append(f"{rows[0].title} {text.words(rows[0].target or '')}")
        else:
            subjects.append(f"{len(rows)} models of {rows[0].title}")
    return _listed(subjects)


def failure_sentences(failures: Sequence[FailureRow]) -> tuple[str, ...]:
    """One sentence per family and reason: "XGBoost: profitability failed: ..."."""
    sentences = []
    for rows in _by_family(failures).values():
        sentences += [f"{row.title} failed: {row.reason}" for row in rows if row.target is None]
        reasons: dict[str, list[str]] = {}
        for row in rows:
            if row.target is not None:
                reasons.setdefault(row.reason, []).append(text.words(row.target))
        sentences += [f"{rows[0].title}: {_listed(targets)} failed: {reason}" for reason, targets in reasons.items()]
    return tuple(sentences)


def _by_family(failures: Sequence[FailureRow]) -> dict[str, list[FailureRow]]:
    found: dict[str, list[FailureRow]] = {}
    for row in failures:
        found.setdefault(row.family, []).append(row)
    return found


def _candidates(promoted: Sequence[ModelSection]) -> str:
    names = [model.name for model in promoted]
    if len(names) > MOST_NAMES:
        names = [*names[:MOST_NAMES], f"{len(names) - MOST_NAMES} more"]
    return f"{_listed(names)} {'is a candidate' if len(promoted) == 1 else 'are candidates'}"


def _refusals(refused: Sequence[ModelSection]) -> list[str]:
    """Each refused model when there are few, otherwise which gates refused how many and who came closest."""
    if len(refused) <= MOST_NAMES:
        return [_refusal(model) for model in refused]
    gates = Counter(gate.name for model in refused for gate in model.failed)
    common = ", ".join(f"{text.words(name)} ({count})" for name, count in gates.most_common(MOST_NAMES))
    closest = min(refused, key=lambda model: len(model.failed))
    return [f"{_count(len(refused))} refused, most often by {common}", f"closest: {_refusal(closest)}"]


def _refusal(model: ModelSection) -> str:
    if not model.verdict.gates:
        return f"{model.name}: refused, because no gate was evaluated"
    names = ", ".join(text.words(gate.name) for gate in model.failed)
    return f"{model.name}: refused by {len(model.failed)} of {len(model.verdict.gates)} gates ({names})"


def _listed(names: Sequence[str]) -> str:
    *others, last = names or ("",)
    return f"{', '.join(others)} and {last}" if others else last


def _count(models: int) -> str:
    return f"{models} model" if models == 1 else f"{models} models"
