from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from models.gates.battery import fail_closed
from models.ladder import check_trainable, earns_its_place, incumbent, rungs
from models.results import Evaluation, GateResult, Kind
from models.training import TrainedModel
from pipelines.dataset import Dataset
from pipelines.errors import DataRefusedError
from pipelines.settings import FAMILIES, Family, Ladder, load_settings

LADDER = load_settings().ladder
LIMITS: dict[Family, int] = {"linear": 500, "forest": 1000, "xgboost": 2000, "lstm": 5000, "ensemble": 2000}
# Numbers that binary fractions hold exactly, so that "exactly the margin" means it.
EXACT = load_settings(overrides=["ladder.margins.forest=0.0625", "ladder.margins.xgboost=0.0625"]).ladder


# --- who may train -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_one_trade_decides(family: Family) -> None:
    limit = LIMITS[family]
    check_trainable(limit, family, LADDER)
    with pytest.raises(DataRefusedError, match=r"1 missing.*before this family is trained.*collect all available history"):
        check_trainable(limit - 1, family, LADDER)
    below, at, above = (rungs(trades, (family,), LADDER)[0].open for trades in (limit - 1, limit, limit + 1))
    assert (below, at, above) == (False, True, True)


@pytest.mark.parametrize(
    ("trades", "trained"),
    [
        (0, ()),
        (499, ()),
        (500, ("linear",)),
        (999, ("linear",)),
        (1000, ("linear", "forest")),
        (1999, ("linear", "forest")),
        (2000, ("linear", "forest", "xgboost", "ensemble")),
        (4999, ("linear", "forest", "xgboost", "ensemble")),
        (5000, FAMILIES),
        (1_000_000, FAMILIES),
    ],
)
def test_the_families_that_the_data_allow(trades: int, trained: tuple[Family, ...]) -> None:
    assert tuple(rung.family for rung in rungs(trades, FAMILIES, LADDER) if rung.open) == trained


def test_the_sentence_of_the_report() -> None:
    (rung,) = rungs(3912, ("lstm",), LADDER)
    assert rung.sentence == "LSTM: 3,912 of 5,000 clean trades"
    assert rungs(1_234_567, ("xgboost",), LADDER)[0].sentence == "XGBoost: 1,234,567 of 2,000 clean trades"
    with pytest.raises(DataRefusedError, match="Random forest: 0 of 1,000 clean trades, 1,000 missing"):
        check_trainable(0, "forest", LADDER)


def test_the_limits_are_those_of_the_settings() -> None:
    other = load_settings(overrides=["ladder.min_trades.forest=37"]).ladder
    assert [rungs(trades, ("forest",), other)[0].open for trades in (36, 37)] == [False, True]


# --- whom a model has to beat ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def linear(trained: tuple[TrainedModel, ...]) -> Evaluation:
    return trained[1].evaluation


def of(evaluation: Evaluation, family: Family, target: str = "profitability", judged_on: str = "profitability") -> Evaluation:
    kind: Kind = "classification" if judged_on == "profitability" else "regression"
    return replace(evaluation, family=family, target=target, kind=kind, judged_on=judged_on)


def test_the_most_complex_simpler_model_that_passed_is_the_rival(linear: Evaluation) -> None:
    simple, forest, boosted, challenger = (of(linear, family) for family in ("linear", "forest", "xgboost", "lstm"))
    assert incumbent(challenger, [(simple, True), (forest, True), (boosted, False)]) is forest
    assert incumbent(challenger, [(simple, True), (forest, False), (boosted, False)]) is simple
    assert incumbent(challenger, [(simple, False), (forest, True), (boosted, True)]) is boosted


def test_where_none_passed_the_simplest_is_the_rival(linear: Evaluation) -> None:
    simple, forest, challenger = (of(linear, family) for family in ("linear", "forest", "xgboost"))
    assert incumbent(challenger, [(simple, False), (forest, False)]) is simple
    assert incumbent(challenger, [(forest, False)]) is forest
    assert incumbent(challenger, []) is None


def test_other_targets_are_no_rivals_while_there_is_one_of_the_same(linear: Evaluation) -> None:
    other = of(linear, "forest", "signal_quality", "profitability")
    same = of(linear, "linear")
    assert incumbent(of(linear, "xgboost"), [(same, False), (other, True)]) is same


def test_a_new_target_is_held_against_what_is_judged_on_the_same(linear: Evaluation) -> None:
    strength = of(linear, "linear", "signal_strength", "realized_r")
    quality = of(linear, "linear", "signal_quality", "profitability")
    challenger = of(linear, "forest", "pnl_prediction", "realized_r")
    assert incumbent(challenger, [(quality, True), (strength, False)]) is strength
    assert incumbent(challenger, [(quality, True)]) is None
    # The same quantity, but a probability against a value: their scores have nothing in common.
    assert incumbent(replace(challenger, kind="classification"), [(strength, True)]) is None


# --- who earns a place -------------------------------------------------------------------------------------------


def scored(evaluation: Evaluation, family: Family, skill: Sequence[float]) -> Evaluation:
    """An evaluation with this skill (ROC-AUC above one half) in each of five folds."""
    return replace(evaluation, family=family, fold_scores=tuple(0.5 + value for value in skill))


def held(new: Sequence[float], old: Sequence[float], evaluation: Evaluation, dataset: Dataset, settings: Ladder = LADDER) -> GateResult:
    return earns_its_place(scored(evaluation, "forest", new), scored(evaluation, "linear", old), dataset, settings)


def gate(challenger: Evaluation, rival: Evaluation | None, dataset: Dataset) -> GateResult:
    """As the battery runs it: what cannot be measured is a refusal."""
    return fail_closed("ladder", lambda: earns_its_place(challenger, rival, dataset, LADDER))


def test_the_simplest_family_has_nobody_to_beat(linear: Evaluation, skilled: Dataset) -> None:
    hopeless = scored(linear, "linear", [-0.4] * 5)
    for rival in (None, scored(linear, "linear", [0.4] * 5)):
        assert earns_its_place(hopeless, rival, skilled, LADDER).passed


def test_a_target_that_no_simpler_family_has_has_nothing_to_beat(linear: Evaluation, skilled: Dataset) -> None:
    timing = replace(scored(linear, "forest", [0.01] * 5), target="optimal_exit_timing", kind="regression", judged_on="exit_timing")
    result = earns_its_place(timing, None, skilled, LADDER)
    assert result.passed
    assert "no simpler family has a model of optimal exit timing" in result.reason


@pytest.mark.parametrize("family", ["forest", "xgboost", "lstm", "ensemble"])
def test_leaving_the_simpler_families_out_is_no_way_round_the_ladder(family: str, linear: Evaluation, skilled: Dataset) -> None:
    result = gate(scored(linear, family, [0.2] * 5), None, skilled)
    assert not result.passed
    assert "it has to beat the model of a simpler family (Linear" in result.reason
    assert "none was trained" in result.reason


def test_exactly_the_margin_is_enough_and_a_hair_less_is_not(linear: Evaluation, skilled: Dataset) -> None:
    old = [0.125] * 5
    at = held([0.1328125] * 5, old, linear, skilled, EXACT)
    assert at.passed
    assert at.value == 0.0625
    below = held([0.1328125 - 2**-30] * 5, old, linear, skilled, EXACT)
    assert not below.passed
    assert below.value == pytest.approx(0.0625, abs=1e-7)


def test_the_margin_on_average_is_not_enough_when_the_folds_scatter(linear: Evaluation, skilled: Dataset) -> None:
    old = [0.10] * 5
    steady = held([0.12, 0.13, 0.12, 0.13, 0.12], old, linear, skilled)
    lucky = held([0.30, 0.05, 0.10, 0.06, 0.11], old, linear, skilled)
    assert [steady.value, lucky.value] == pytest.approx([0.24, 0.24])
    assert (steady.passed, lucky.passed) == (True, False)
    assert lucky.evidence["lower"] < 0.0 < steady.evidence["lower"]


def test_the_lower_bound_is_that_of_a_paired_t_test(linear: Evaluation, skilled: Dataset) -> None:
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(0)
    old, new = rng.uniform(0.05, 0.1, 5), rng.uniform(0.06, 0.12, 5)
    found = held(new.tolist(), old.tolist(), linear, skilled)
    # A one-sided bound is one end of a two-sided interval.
    interval = ttest_rel(new, old).confidence_interval(2.0 * LADDER.confidence - 1.0)
    assert found.evidence["lower"] == pytest.approx(interval.low)
    assert found.value == pytest.approx((new.mean() - old.mean()) / old.mean())


def test_folds_are_compared_in_pairs(linear: Evaluation, skilled: Dataset) -> None:
    # A hard fold is hard for both: the scores scatter, the gain does not.
    old = [0.02, 0.20, 0.05, 0.15, 0.08]
    assert held([value + 0.02 for value in old], old, linear, skilled).passed
    assert not held([value + 0.02 for value in reversed(old)], old, linear, skilled).passed


def test_a_worse_model_never_passes(linear: Evaluation, skilled: Dataset) -> None:
    generous = load_settings(overrides=["ladder.margins.forest=0.0", "ladder.confidence=0.5"]).ladder
    for old in ([0.1] * 5, [0.0] * 5, [-0.1] * 5):
        assert not held([value - 0.01 for value in old], old, linear, skilled, generous).passed
        assert not held(old, old, linear, skilled, generous).passed


def test_a_rival_below_chance_does_not_turn_a_loss_into_a_gain(linear: Evaluation, skilled: Dataset) -> None:
    # (new - old) / old would be positive here.
    result = held([-0.2] * 5, [-0.1] * 5, linear, skilled)
    assert not result.passed
    assert result.value == pytest.approx(-1.0)


def test_a_model_without_skill_earns_nothing_however_bad_its_rival(linear: Evaluation, skilled: Dataset) -> None:
    assert not held([-0.05] * 5, [-0.10] * 5, linear, skilled).passed
    assert not held([0.0] * 5, [-0.10] * 5, linear, skilled).passed
    assert held([0.05] * 5, [-0.10] * 5, linear, skilled).passed


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_cannot_be_measured_does_not_pass(linear: Evaluation, skilled: Dataset) -> None:
    nan = float("nan")
    good, gap = [0.2] * 5, [0.2, 0.2, nan, 0.2, 0.2]
    for new, old in ((gap, [0.1] * 5), (good, [0.1, nan, 0.1, 0.1, 0.1]), ([nan] * 5, [nan] * 5)):
        result = gate(scored(linear, "forest", new), scored(linear, "linear", old), skilled)
        assert not result.passed
        assert result.value is None
    # A single fold says nothing about the noise of folds.
    assert not held([0.2], [0.1], linear, skilled).passed


def test_evaluations_of_other_folds_or_trades_cannot_be_compared(linear: Evaluation, skilled: Dataset) -> None:
    with pytest.raises(ValueError, match="5 folds"):
        held([0.2] * 5, [0.1] * 3, linear, skilled)
    challenger, rival = scored(linear, "forest", [0.2] * 5), scored(linear, "linear", [0.1] * 5)
    for other in (replace(rival, oof_rows=rival.oof_rows + 1), replace(rival, oof_folds=rival.oof_folds[::-1].copy())):
        assert not gate(challenger, other, skilled).passed


def test_a_correlation_counts_from_zero(linear: Evaluation, skilled: Dataset) -> None:
    new, old = (
        replace(linear, family=family, kind="regression", judged_on="realized_r", fold_scores=(value,) * 5)
        for family, value in (("forest", 0.22), ("linear", 0.20))
    )
    result = earns_its_place(new, old, skilled, LADDER)
    assert result.passed
    assert result.value == pytest.approx(0.1)


@pytest.mark.parametrize("family", ["forest", "lstm", "ensemble"])
def test_every_family_has_its_own_margin(family: Family, linear: Evaluation, skilled: Dataset) -> None:
    strict = load_settings(overrides=[f"ladder.margins.{family}=0.5"]).ladder
    new, old = scored(linear, family, [0.14] * 5), scored(linear, "linear", [0.10] * 5)
    assert earns_its_place(new, old, skilled, LADDER).passed
    assert not earns_its_place(new, old, skilled, strict).passed


def sharpe_by_hand(dataset: Dataset, evaluation: Evaluation, multipliers: np.ndarray) -> list[float]:
    table = pd.DataFrame(
        {
            "fold": evaluation.oof_folds,
            "day": dataset.trading_days[evaluation.oof_rows],
            "pnl": dataset.target("net_pnl")[evaluation.oof_rows] * multipliers,
        }
    )
    daily = table.groupby(["fold", "day"])["pnl"].sum()
    return [float(days.mean() / days.std()) for _, days in daily.groupby("fold")]


def chosen(evaluation: Evaluation, family: Family, multipliers: np.ndarray) -> Evaluation:
    return replace(evaluation, family=family, oof_multipliers=multipliers.astype(np.float64))


def test_xgboost_is_judged_by_money_and_the_others_by_skill(linear: Evaluation, skilled: Dataset) -> None:
    winners = skilled.target("net_pnl")[linear.oof_rows] > 0.0
    rng = np.random.default_rng(1)
    every, better = np.ones(len(winners)), winners | (rng.random(len(winners)) < 0.5)
    rival = replace(chosen(linear, "linear", every), fold_scores=(0.6,) * 5)
    # Richer, but with less skill: XGBoost passes, a forest does not.
    richer = replace(chosen(linear, "xgboost", better), fold_scores=(0.55,) * 5)
    result = earns_its_place(richer, rival, skilled, LADDER)
    assert result.passed
    assert result.evidence["measured"] == "Sharpe ratio"
    assert result.evidence["new"] == pytest.approx(sharpe_by_hand(skilled, linear, better))
    assert result.evidence["old"] == pytest.approx(sharpe_by_hand(skilled, linear, every))
    assert not earns_its_place(replace(richer, family="forest"), rival, skilled, LADDER).passed
    # More skill and no more money: the other way round.
    skilful = replace(chosen(linear, "xgboost", every), fold_scores=(0.9,) * 5)
    assert not earns_its_place(skilful, rival, skilled, LADDER).passed
    assert earns_its_place(replace(skilful, family="forest"), rival, skilled, LADDER).passed


def test_losing_less_money_than_the_rival_is_not_enough_while_it_loses(linear: Evaluation, skilled: Dataset) -> None:
    losers = skilled.target("net_pnl")[linear.oof_rows] < 0.0
    some = losers & (np.random.default_rng(2).random(len(losers)) < 0.3)
    result = gate(chosen(linear, "xgboost", some), chosen(linear, "linear", losers), skilled)
    assert result.value is not None
    assert result.value > LADDER.margins.xgboost
    assert max(result.evidence["new"]) < 0.0
    assert not result.passed


def test_a_forecast_of_the_exit_is_no_reason_to_trade_and_is_judged_by_skill(linear: Evaluation, skilled: Dataset) -> None:
    timing = replace(linear, target="optimal_exit_timing", kind="regression", label="exit_timing", judged_on="exit_timing")
    winners = skilled.target("net_pnl")[linear.oof_rows] > 0.0
    rival = replace(chosen(timing, "forest", np.ones(len(winners))), fold_scores=(0.2,) * 5)
    richer = replace(chosen(timing, "xgboost", winners), fold_scores=(0.2,) * 5)
    assert not gate(richer, rival, skilled).passed
    assert gate(replace(richer, fold_scores=(0.25,) * 5), rival, skilled).passed


def test_days_without_a_trade_count_in_the_sharpe_ratio(linear: Evaluation, skilled: Dataset) -> None:
    days = skilled.trading_days[linear.oof_rows]
    odd = (days % 2 == 1).astype(float)
    result = earns_its_place(chosen(linear, "xgboost", odd), chosen(linear, "linear", np.ones(len(odd))), skilled, LADDER)
    assert result.evidence["new"] == pytest.approx(sharpe_by_hand(skilled, linear, odd))


def test_a_policy_that_takes_nothing_in_a_fold_does_not_pass(linear: Evaluation, skilled: Dataset) -> None:
    winners = (skilled.target("net_pnl")[linear.oof_rows] > 0.0).astype(float)
    idle = np.where(linear.oof_folds == 2, 0.0, winners)
    every = np.ones(len(winners))
    for new, old in ((idle, every), (winners, np.where(linear.oof_folds == 2, 0.0, every))):
        result = gate(chosen(linear, "xgboost", new), chosen(linear, "linear", old), skilled)
        assert not result.passed
        assert result.value is None


def test_the_reason_names_both_sides_and_the_margin(linear: Evaluation, skilled: Dataset) -> None:
    reason = held([0.12] * 5, [0.10] * 5, linear, skilled).reason
    assert "mean skill goes from 0.1000 (linear) to 0.1200, +20%" in reason
    assert "+5% are asked for" in reason
