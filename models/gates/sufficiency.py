"""Whether there are enough trades to promote on, and to judge by (DOMAIN E.2, J-27)."""

from __future__ import annotations

from models.results import Evaluation, GateResult
from pipelines.settings import Gates


def enough_to_promote(evaluation: Evaluation, settings: Gates) -> GateResult:
    """Below `min_promotable_trades` a model is for development only."""
    return _at_least(
        "promotable_trades",
        evaluation.rows["all"],
        settings.min_promotable_trades,
        "clean trades",
        "the model is for development only",
    )


def enough_to_judge(evaluation: Evaluation, settings: Gates) -> GateResult:
    """Below `min_test_trades` the test part cannot tell skill from luck."""
    return _at_least(
        "test_trades",
        evaluation.rows["test"],
        settings.min_test_trades,
        "test trades",
        "the test part is too small to tell skill from luck",
    )


def _at_least(name: str, count: int, limit: int, noun: str, consequence: str) -> GateResult:
    passed = count >= limit
    reason = f"{count} {noun} are enough" if passed else f"{count} of {limit} {noun}, {limit - count} missing: {consequence}"
    return GateResult(name, passed, float(count), f">= {limit}", reason, {"trades": count})
