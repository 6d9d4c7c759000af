"""What travels out of training and judging: evaluations, gate results and verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

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

    The score is the ROC-AUC of a classifier or the Spearman correlation of a regression with
    realised R. Rows are positions in the dataset, which is sorted by decision time.
    """

    target: str
    family: str
    kind: Kind
    fold_scores: tuple[float, ...]
    fold_train_scores: tuple[float, ...]
    train_score: float
    validation_score: float
    test_score: float
    metrics: dict[str, float]
    baselines: dict[str, float]
    coefficients: dict[str, float]
    oof_rows: NDArray[np.int64]
    oof_predictions: NDArray[np.float64]
    test_rows: NDArray[np.int64]
    test_predictions: NDArray[np.float64]
    train_quantiles: NDArray[np.float64]
    rows: dict[str, int]

    @property
    def score_name(self) -> str:
        """What the scores are."""
        return "ROC-AUC" if self.kind == "classification" else "Spearman correlation with realised R"


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
