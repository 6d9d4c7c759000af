"""What travels out of training and judging: evaluations, gate results and verdicts."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.performance import Performance
from pipelines.storage import json_text

Kind = Literal["classification", "regression"]


@dataclass(frozen=True)
class GateResult:
    """One gate's decision with its evidence.

    Attributes
    ----------
    name
        Short snake_case name, unique within a verdict.
    passed
        Whether the gate lets the model through.
    value
        What was measured; None when it could not be (which never passes).
    limit
        What was required, readable: ">= 0.55".
    reason
        One sentence for the reviewer.
    evidence
        Numbers behind the value, JSON-able.
    """

    name: str
    passed: bool
    value: float | None
    limit: str
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """How one trained model scored, fold by fold and in time order.

    The score is the ROC-AUC of a classifier or the linear correlation of a regression with
    realised R. Rows are positions in the dataset, which is sorted by decision time.

    Attributes
    ----------
    fold_scores, fold_train_scores
        Score of each walk-forward fold on its test and training rows, oldest first.
    train_score, validation_score, test_score
        Scores of the final model, which was fitted on the train part.
    label
        Dataset target that the model is fitted on.
    judged_on
        Dataset target that the scores are measured against.
    parameters
        The family's settings that the model was fitted with.
    details
        Numbers of the fitted model: slope of the calibration, epochs, slopes of the stacker.
    metrics, baselines
        On the test part; of the model and of doing without it.
    calibration
        Brier score and calibration error on the test part, before and after the calibration; empty
        for a model whose value is no probability.
    oof_rows, oof_folds, oof_predictions, oof_multipliers
        Out-of-fold predictions: row, number of the fold, score, contracts per baseline contract that
        the policy gives by the training scores of that fold.
    train_quantiles
        Evenly spaced quantiles of the final model's training scores, smallest to largest.
    rows
        Number of rows of all data and of each part.
    test_net_pnl, test_multipliers
        USD per baseline contract and contracts per baseline contract, per test row.
    baseline_performance, policy_performance
        Trading figures of the test part when every trade is taken, and when the policy decides.
    """

    target: str
    family: str
    kind: Kind
    label: str
    judged_on: str
    parameters: dict[str, Any]
    details: dict[str, float]
    fold_scores: tuple[float, ...]
    fold_train_scores: tuple[float, ...]
    train_score: float
    validation_score: float
    test_score: float
    metrics: dict[str, float]
    calibration: dict[str, float]
    baselines: dict[str, float]
    coefficients: dict[str, float]
    oof_rows: NDArray[np.int64]
    oof_folds: NDArray[np.int64]
    oof_predictions: NDArray[np.float64]
    oof_multipliers: NDArray[np.float64]
    train_rows: NDArray[np.int64]
    test_rows: NDArray[np.int64]
    test_predictions: NDArray[np.float64]
    train_quantiles: NDArray[np.float64]
    rows: dict[str, int]
    test_net_pnl: NDArray[np.float64]
    test_multipliers: NDArray[np.float64]
    baseline_performance: Performance
    policy_performance: Performance

    @property
    def score_name(self) -> str:
        """What the scores are."""
        if self.kind == "classification":
            return "ROC-AUC"
        return "correlation with " + ("realised R" if self.judged_on == "realized_r" else self.judged_on.replace("_", " "))

    @property
    def name(self) -> str:
        """Unique name of the model within a training: family and target."""
        return f"{self.family}/{self.target}"

    def to_json(self) -> str:
        """Write JSON text; floats keep every bit, NaN becomes null."""
        return json_text(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        return cls(**{item.name: _restore(values[item.name], str(item.type)) for item in fields(cls)})


@dataclass(frozen=True)
class Verdict:
    """All gates of one model, and what follows from them."""

    target: str
    family: str
    gates: tuple[GateResult, ...]

    @property
    def candidate(self) -> bool:
        """Whether every gate passed (and there was at least one)."""
        return bool(self.gates) and all(gate.passed for gate in self.gates)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons of the gates that refused."""
        return tuple(gate.reason for gate in self.gates if not gate.passed)

    def to_json(self) -> str:
        """Write JSON text; NaN becomes null."""
        return json_text(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Verdict:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        return cls(values["target"], values["family"], tuple(GateResult(**gate) for gate in values["gates"]))


def _restore(value: Any, annotation: str) -> Any:
    """Turn a JSON value back into what a field of this annotation holds; null is NaN."""
    match annotation:
        case "float":
            return math.nan if value is None else value
        case "tuple[float, ...]":
            return tuple(_restore(item, "float") for item in value)
        case "dict[str, float]":
            return {key: _restore(item, "float") for key, item in value.items()}
        case "NDArray[np.int64]":
            return np.array(value, dtype=np.int64)
        case "NDArray[np.float64]":
            return np.array([_restore(item, "float") for item in value], dtype=np.float64)
        case "Performance":
            return Performance(**{item.name: _restore(value[item.name], str(item.type)) for item in fields(Performance)})
    return value
