"""From a signal to an answer: a pure function of the signal and of the model in force.

A model may only change the confidence of a signal that the strategy gave; it never makes a
trade, turns one or stops one. Whenever there is no trustworthy score the answer is the signal's
own confidence, unchanged: an average with a default of 0.5 would push a good signal below the
trading gate, so that an outage would stop the trading (DOMAIN E.15).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.results import Kind
from pipelines.contracts.signal import Signal
from pipelines.features.twelve import FEATURES, compute_one
from pipelines.features.window import compute_window_one
from pipelines.settings import Features

log = logging.getLogger("bentoml.amiral")

Stage = Literal["candidate", "production"]
"""Only a model in production may change a confidence (DOMAIN E.7); a candidate scores in its shadow."""

ROUNDING = 1e-6
"""By how much float32 arithmetic may leave [0, 1] without being a fault."""

UNSCALED = 1.0
"""Size multiplier. A candidate informs and does not size; sizing belongs to a model in production."""


class Scorer(Protocol):
    """What scores rows: features (n, 12) with NaN for missing, and windows (n, 32, channels) where `windowed`; (n,) out."""

    @property
    def windowed(self) -> bool:
        """Whether `score` needs the window of bars."""

    def score(self, features: NDArray[np.float64], windows: NDArray[np.float64] | None = None, /) -> NDArray[np.float64]:
        """Score rows."""


@dataclass(frozen=True)
class Deployment:
    """The model in force.

    Attributes
    ----------
    version
        "model name/version", as it stands in the answers.
    scorer
        Gives P(class 1) for a classifier, a strength of 0 to 1 for a regression.
    kind
        Which of the two.
    features
        The feature settings that the model was trained with; the service's own would compute
        other features after a change of `params.yaml`.
    fingerprint
        SHA-256 of the model's files.
    simulated
        Whether it learnt from simulated trades, of which a market knows nothing.
    stage
        How far it has come.
    """

    version: str
    scorer: Scorer
    kind: Kind
    features: Features
    fingerprint: str
    simulated: bool
    stage: Stage


@dataclass(frozen=True)
class Answer:
    """What the bot is told.

    Attributes
    ----------
    score
        The model's score, 0 to 1; None when degraded.
    enhanced_confidence
        (own confidence + score) / 2 with a model in production; else the own confidence, unchanged.
    decision
        "scored" when a model in production has its say; "shadow" when a candidate's score is for the
        record only; "neutral" without a score. Either way the trade stays the strategy's.
    size_multiplier
        Contracts per planned contract.
    model_version, stage
        The model that scored, or would have; None without a model.
    degraded
        Whether the bot is on its own.
    reason
        Why, when degraded; else empty.
    """

    score: float | None
    enhanced_confidence: float
    decision: Literal["scored", "shadow", "neutral"]
    size_multiplier: float
    model_version: str | None
    stage: Stage | None
    degraded: bool
    reason: str


def score_signal(signal: Signal, deployment: Deployment | None, required: Sequence[str], absence: str = "no candidate model") -> Answer:
    """Score one signal; never raises.

    Parameters
    ----------
    signal
        A valid signal.
    deployment
        The model in force, None when there is none.
    required
        Features without which no score is given.
    absence
        Why there is no model, for the answer.
    """
    if deployment is None:
        return neutral(signal, None, absence)
    if deployment.simulated and signal.data_source != "simulated":
        return neutral(signal, deployment, f"the model learnt from simulated trades; a {signal.data_source} signal passes unchanged")
    try:
        features = compute_one(signal, deployment.features)
        missing = [name for name, value in zip(FEATURES, features, strict=True) if math.isnan(value) and name in required]
        if missing:
            return neutral(signal, deployment, f"required feature missing: {', '.join(missing)}")
        windows = compute_window_one(signal)[np.newaxis] if deployment.scorer.windowed else None
        score = float(deployment.scorer.score(features[np.newaxis], windows)[0])
    except Exception as error:
        # Whatever goes wrong in here is our fault, and a fault of ours must not cost a trade.
        log.exception("scoring %s with %s failed", signal.trade_id, deployment.version)
        return neutral(signal, deployment, f"scoring failed: {type(error).__name__}; the service's log has the details")
    problem = _problem(score, deployment.kind)
    if problem:
        log.error("scoring %s with %s: %s", signal.trade_id, deployment.version, problem)
        return neutral(signal, deployment, problem)
    score = min(max(score, 0.0), 1.0)
    own = signal.battle_navale.confidence
    if deployment.stage != "production":
        return Answer(score, own, "shadow", UNSCALED, deployment.version, deployment.stage, degraded=False, reason="")
    return Answer(score, (own + score) / 2.0, "scored", UNSCALED, deployment.version, deployment.stage, degraded=False, reason="")


def neutral(signal: Signal, deployment: Deployment | None, reason: str) -> Answer:
    """Hand the signal's own confidence back, with the reason."""
    version, stage = (deployment.version, deployment.stage) if deployment else (None, None)
    return Answer(None, signal.battle_navale.confidence, "neutral", UNSCALED, version, stage, degraded=True, reason=reason)


def _problem(score: float, kind: Kind) -> str:
    if not math.isfinite(score):
        return f"the model gave {score}, not a finite score"
    # The expected strength of a straight line may leave the range of its target; a probability may not.
    if kind == "classification" and not -ROUNDING <= score <= 1.0 + ROUNDING:
        return f"the model gave {score:g}, not a probability"
    return ""
