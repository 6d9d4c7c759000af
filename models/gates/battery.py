"""All gates in order. A model is a candidate only when every one of them passes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from models.gates import overfitting, skill, sufficiency
from models.gates.parity import onnx_parity
from models.ladder import earns_its_place
from models.results import Evaluation, GateResult, Verdict
from pipelines.dataset import Dataset
from pipelines.errors import AmiralError
from pipelines.settings import Settings

UNMEASURABLE = (ValueError, ArithmeticError, AmiralError, np.linalg.LinAlgError)
"""What data can do to a gate; the gate then refuses. A programming error stops the run, which promotes nothing either."""


def judge(
    evaluation: Evaluation, dataset: Dataset, settings: Settings, *, parity: float | None, rival: Evaluation | None = None
) -> Verdict:
    """Hold one evaluation against every gate.

    A gate that raises or gives NaN has not passed (J-25). The bootstrap is seeded by `seed`, so
    the same evaluation gets the same verdict.

    Parameters
    ----------
    evaluation
        Of one model.
    dataset
        The dataset that it was trained on.
    settings
        All settings.
    parity
        Largest difference between the model's ONNX and Python scores (`Package.parity`);
        None when it could not be measured.
    rival
        The simpler model that it has to beat (`models.ladder.incumbent`); None for the simplest family,
        or when no simpler family has such a model.
    """
    gates = settings.gates

    def rng() -> np.random.Generator:
        return np.random.default_rng([settings.seed, len(evaluation.test_rows)])

    checks: tuple[tuple[str, Callable[[], GateResult]], ...] = (
        ("promotable_trades", lambda: sufficiency.enough_to_promote(evaluation, gates)),
        ("test_trades", lambda: sufficiency.enough_to_judge(evaluation, gates)),
        ("out_of_fold_skill", lambda: skill.skill_out_of_fold(evaluation, dataset, gates, rng())),
        ("test_skill", lambda: skill.skill_on_test(evaluation, dataset, gates, rng())),
        ("test_score", lambda: skill.score_on_test(evaluation, gates)),
        ("money_skill", lambda: skill.money_skill(evaluation, dataset, gates, rng())),
        ("train_test_gap", lambda: overfitting.train_test_gap(evaluation, gates)),
        ("fold_deviation", lambda: overfitting.fold_deviation(evaluation, gates)),
        ("ladder", lambda: earns_its_place(evaluation, rival, dataset, settings.ladder)),
        ("onnx_parity", lambda: onnx_parity(parity, settings.registry)),
    )
    # On one thread the sums have one order, so the bits do not depend on the number of cores.
    with threadpool_limits(limits=1):
        results = tuple(fail_closed(name, check) for name, check in checks)
    return Verdict(evaluation.target, evaluation.family, results)


def fail_closed(name: str, check: Callable[[], GateResult]) -> GateResult:
    """Run a gate; what cannot be measured does not pass."""
    try:
        result = check()
    except UNMEASURABLE as error:
        return GateResult(
            name, False, None, "a measurable value", f"{name} could not be measured: {error}", {"error": type(error).__name__}
        )
    if result.value is None and not result.passed:
        return result  # refused for a reason of its own
    if result.value is None or math.isnan(result.value):
        return GateResult(name, False, None, result.limit, f"{name} could not be measured: its value is not a number", result.evidence)
    return result
