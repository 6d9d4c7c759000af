"""From the trainings and the verdicts to the two tables that open the page: the ladder and the models."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.report import text
from flows.report.content import FAILED, NOT_YET, PARTLY_FAILED, TRAINED, FailureRow, ModelSection, RungRow, failure_sentences
from models.results import GateResult

_AT_LEAST = re.compile(r">= (\d+(?:\.\d+)?)")

LADDER_GATE = "ladder"
"""Name of the gate that holds a model against a simpler family."""


@dataclass(frozen=True)
class LadderStep:
    """What the ladder's gate said of one or more models of a family."""

    passed: bool
    sentence: str


@dataclass(frozen=True)
class ModelRow:
    """One model in the table: where its section is, how it scored, what became of it.

    Attributes
    ----------
    anchor
        Id of its section on the page.
    out_of_fold, deviation
        Mean and standard deviation (n - 1) of the finite fold scores; NaN without.
    gap
        Training score less test score, in units of the score.
    brier_raw, brier
        Before and after the calibration; None when the value is no probability.
    best
        Highest mean out of fold of its target.
    """

    anchor: str
    model: ModelSection
    out_of_fold: float
    deviation: float
    test: float
    gap: float
    brier_raw: float | None
    brier: float | None
    best: bool

    @property
    def refused_by(self) -> tuple[str, ...]:
        """The gates that refused, in words."""
        return tuple(text.words(gate.name) for gate in self.model.failed)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the terminal and for programs."""
        evaluation = self.model.evaluation
        return {
            "family": evaluation.family,
            "title": self.model.title,
            "target": evaluation.target,
            "score_name": evaluation.score_name,
            "out_of_fold": self.out_of_fold,
            "deviation": self.deviation,
            "test_score": self.test,
            "best": self.best,
            "candidate": self.model.verdict.candidate,
            "refused_by": [gate.name for gate in self.model.failed],
            "version": self.model.version,
        }


@dataclass(frozen=True)
class TargetGroup:
    """The models of one target, simplest family first."""

    target: str
    score_name: str
    rows: tuple[ModelRow, ...]


def rungs(trainings: Sequence[Mapping[str, Any]], candidates: Sequence[str]) -> tuple[RungRow, ...]:
    """Say of every family what came of it.

    Parameters
    ----------
    trainings
        What the train stage left of each family (`metrics.json`), simplest first.
    candidates
        Names ("family/target") of the models that passed every gate.
    """
    return tuple(_rung(training, candidates) for training in trainings)


def failures(trainings: Sequence[Mapping[str, Any]]) -> tuple[FailureRow, ...]:
    """List what failed; a family that has too few trades has not."""
    found = []
    for training in trainings:
        family, title = training["family"], training["title"]
        if training["state"] == FAILED:
            found.append(FailureRow(family, title, None, training["reason"]))
        found += [FailureRow(family, title, target, reason) for target, reason in training["failures"].items()]
    return tuple(found)


def target_groups(models: Sequence[ModelSection]) -> tuple[TargetGroup, ...]:
    """Put the models of one target together, targets in order of appearance."""
    found: dict[str, list[tuple[int, ModelSection]]] = {}
    for position, model in enumerate(models):
        found.setdefault(model.evaluation.target, []).append((position, model))
    return tuple(_group(members) for members in found.values())


def anchor(position: int) -> str:
    """Id of the section of the model at this position; made here, so no name from outside is part of it."""
    return f"m{position}"


def out_of_fold(model: ModelSection) -> tuple[float, float]:
    """Mean and standard deviation (n - 1) of the finite fold scores; NaN where there are too few."""
    scores = np.array(model.evaluation.fold_scores, dtype=np.float64)
    known = scores[np.isfinite(scores)]
    return float(known.mean()) if len(known) else math.nan, float(known.std(ddof=1)) if len(known) > 1 else math.nan


def ladder_steps(models: Sequence[ModelSection]) -> tuple[LadderStep, ...]:
    """What the ladder's gate says of the models of one family; equal sentences once."""
    steps = []
    for model in models:
        for gate in model.verdict.gates:
            if gate.name == LADDER_GATE:
                steps.append(LadderStep(gate.passed, _comparison(model, gate)))
    return tuple(dict.fromkeys(steps))


def _comparison(model: ModelSection, gate: GateResult) -> str:
    if gate.value is None or "rival" not in gate.evidence:
        return gate.reason
    rival_family, _, rival_target = str(gate.evidence["rival"]).partition("/")
    other = "" if rival_target == model.evaluation.target else f" {text.words(rival_target)}"
    measured = text.words(str(gate.evidence["measured"]))
    return f"{model.target}: {measured} {text.change(gate.value)} over {text.words(rival_family)}{other} (asked {_asked(gate.limit)})"


def _asked(limit: str) -> str:
    """A limit such as ">= 0.05" as percent; anything else as it is."""
    bound = _AT_LEAST.fullmatch(limit)
    return text.change(float(bound[1])) if bound else limit


def _rung(training: Mapping[str, Any], candidates: Sequence[str]) -> RungRow:
    family, title, state = training["family"], training["title"], training["state"]
    if state == NOT_YET:
        return RungRow(family, title, NOT_YET, training["reason"])
    own = failures([training])
    # The sentence stands beside the family's title and need not repeat it.
    broken = "; ".join(sentence.removeprefix(f"{title}: ").removeprefix(f"{title} ") for sentence in failure_sentences(own))
    if state == FAILED:
        return RungRow(family, title, FAILED, broken)
    count = len(training["models"])
    passed = sum(name in candidates for name in (f"{family}/{target}" for target in training["models"]))
    sentence = f"{count} {'model' if count == 1 else 'models'}, {passed or 'no'} {'candidates' if passed > 1 else 'candidate'}"
    if training["tuned"]:
        sentence += f"; tuned: {', '.join(text.words(target) for target in training['tuned'])}"
    if own:
        return RungRow(family, title, PARTLY_FAILED, f"{sentence}; {broken}")
    return RungRow(family, title, TRAINED, sentence)


def _group(members: Sequence[tuple[int, ModelSection]]) -> TargetGroup:
    scores = [out_of_fold(model) for _, model in members]
    known = [mean for mean, _ in scores if math.isfinite(mean)]
    best = max(known) if known else math.nan
    rows = []
    for (position, model), (mean, deviation) in zip(members, scores, strict=True):
        evaluation = model.evaluation
        calibration = evaluation.calibration
        rows.append(
            ModelRow(
                anchor=anchor(position),
                model=model,
                out_of_fold=mean,
                deviation=deviation,
                test=evaluation.test_score,
                gap=evaluation.train_score - evaluation.test_score,
                brier_raw=calibration["brier_raw"] if calibration else None,
                brier=calibration["brier"] if calibration else None,
                best=len(members) > 1 and mean == best,
            )
        )
    return TargetGroup(members[0][1].target, members[0][1].evaluation.score_name, tuple(rows))
