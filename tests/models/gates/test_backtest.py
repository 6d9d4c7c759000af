from __future__ import annotations

import math
import tracemalloc
from itertools import combinations

import numpy as np
import purgedcv
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from purgedcv import deflated_sharpe_ratio_full, min_track_record_length, probability_of_backtest_overfitting
from scipy import stats

from models.gates.backtest import (
    TrackRecord,
    Trials,
    deflated_sharpe,
    effective_trials,
    expected_maximum_sharpe,
    mean_return,
    minimum_track_record,
    probabilistic_sharpe,
    probability_of_overfitting,
    sharpe,
    track_record,
)
from pipelines.errors import AmiralError, DataRefusedError, SettingsError


def noise(seed: int, rows: int = 320, trials: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, trials))


@st.composite
def records(draw: st.DrawFn) -> TrackRecord:
    skew = draw(st.floats(-2, 2))
    kurtosis = 1.0 + skew**2 + draw(st.floats(0.1, 20))
    return TrackRecord(draw(st.floats(-0.5, 0.5)), draw(st.integers(3, 5000)), skew, kurtosis)


# Published worked examples


@pytest.mark.parametrize(("skew", "kurtosis", "published"), [(0.0, 3.0, 0.982), (-2.448, 10.164, 0.913)])
def test_psr_of_the_hedge_fund_with_two_years_of_months(skew: float, kurtosis: float, published: float) -> None:
    """Bailey and Lopez de Prado (2012), section 3: a Sharpe ratio of 0.458 a month."""
    found = probabilistic_sharpe(TrackRecord(0.458, 24, skew, kurtosis))
    assert found.probability == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize(
    ("a_year", "skew", "kurtosis", "published"),
    [(252, 0.0, 3.0, 2.73), (52, 0.0, 3.0, 2.83), (12, 0.0, 3.0, 3.24), (12, -0.72, 5.78, 4.99)],
    ids=["days", "weeks", "months", "months of hedge funds"],
)
def test_years_that_a_sharpe_ratio_of_2_takes_to_exceed_1(a_year: int, skew: float, kurtosis: float, published: float) -> None:
    """Bailey and Lopez de Prado (2012), section 4."""
    record = TrackRecord(2 / a_year**0.5, 3 * a_year, skew, kurtosis)
    found = minimum_track_record(record, benchmark=1 / a_year**0.5, confidence=0.95)
    assert found.needed / a_year == pytest.approx(published, abs=5e-3)
    assert found.enough == (published < 3)


@pytest.mark.parametrize(
    ("trials", "skew", "kurtosis", "published"),
    [(100, -3.0, 10.0, 0.9004), (46, -3.0, 10.0, 0.9505), (88, 0.0, 3.0, 0.9505)],
    ids=["100 trials", "46 trials, the most at 95 %", "88 trials, the most at 95 % were the returns normal"],
)
def test_dsr_of_the_strategy_with_an_annual_sharpe_ratio_of_2_5(trials: int, skew: float, kurtosis: float, published: float) -> None:
    """Bailey and Lopez de Prado (2014), numerical example: 1,250 days, variance 1/2 of the annual Sharpe ratios."""
    found = deflated_sharpe(TrackRecord(2.5 / 250**0.5, 1250, skew, kurtosis), Trials(trials, 0.5 / 250))
    assert found.probability == pytest.approx(published, abs=5e-5)
    if trials == 100:
        assert found.benchmark == pytest.approx(0.1132, abs=5e-5)


def test_effective_number_of_trials_of_the_2014_appendix() -> None:
    """m + (1 - m) N on series that all correlate equally."""
    rng = np.random.default_rng(0)
    loadings = 0.6**0.5 * rng.normal(size=(20_000, 1)) + 0.4**0.5 * rng.normal(size=(20_000, 10))
    assert effective_trials(loadings) == pytest.approx(0.6 + 0.4 * 10, abs=0.1)
    assert effective_trials(loadings, "clusters", threshold=0.5) == 1
    assert effective_trials(loadings, "clusters", threshold=0.7) == 10


# purgedcv as oracle


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(40, 400), st.integers(1, 500), st.floats(1e-6, 0.05))
def test_psr_and_dsr_equal_those_of_purgedcv(seed: int, rows: int, trials: int, variance: float) -> None:
    returns = np.random.default_rng(seed).gamma(2.0, size=rows) - 1.9
    oracle = deflated_sharpe_ratio_full(returns, trials, variance)
    # purgedcv takes bias-corrected moments, so both get the same ones.
    assume(oracle.kurt >= 1.0 + oracle.skew**2)
    record = TrackRecord(oracle.observed_sr, rows, oracle.skew, oracle.kurt)
    found = deflated_sharpe(record, Trials(trials, variance))
    assert found.benchmark == pytest.approx(oracle.sr_star, abs=1e-12)
    assert found.probability == pytest.approx(oracle.dsr, abs=1e-12)
    assert found.undeflated == pytest.approx(purgedcv.probabilistic_sharpe_ratio(returns, 0.0), abs=1e-12)


@given(records(), st.floats(-0.5, 0.5), st.floats(0.51, 0.999))
def test_minimum_track_record_equals_that_of_purgedcv(record: TrackRecord, benchmark: float, confidence: float) -> None:
    found = minimum_track_record(record, benchmark, confidence)
    if record.sharpe <= benchmark:
        assert found.needed == math.inf
        assert not found.enough
    elif record.sharpe - benchmark > 1e-4:
        oracle = min_track_record_length(record.sharpe, benchmark, 1.0 - confidence, record.skew, record.kurtosis)
        assert oracle - 1 - 1e-6 * oracle <= found.needed <= oracle * (1 + 1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9), st.sampled_from([2, 4, 6, 8]), st.integers(0, 40), st.booleans())
def test_pbo_equals_that_of_purgedcv(seed: int, trials: int, blocks: int, extra: int, drift: bool) -> None:
    """Also where the rows do not divide into equal blocks, and far from 0."""
    returns = noise(seed, 3 * blocks + extra, trials) + (5.0 if drift else 0.0) + 0.3 * np.arange(trials)
    found = probability_of_overfitting(returns, blocks)
    oracle = probability_of_backtest_overfitting(returns.T, n_splits=blocks)
    # purgedcv lists the out-of-sample halves in the order in which the in-sample ones come here.
    assert found.logits == pytest.approx(oracle.logits[::-1], abs=1e-9)
    assert found.in_sample == pytest.approx(oracle.is_oos_performance[::-1, 0], rel=1e-7, abs=1e-9)
    assert found.out_of_sample == pytest.approx(oracle.is_oos_performance[::-1, 1], rel=1e-7, abs=1e-9)
    assert found.slope == pytest.approx(oracle.slope, rel=1e-6, abs=1e-9)
    # There a rank exactly at the median is no overfitting; here it is.
    assert found.probability == pytest.approx(np.mean(oracle.logits <= 1e-12))
    if trials % 2 == 0:
        assert found.probability == oracle.pbo


def test_pbo_of_the_full_16_blocks_equals_that_of_a_loop_over_the_halves() -> None:
    returns = noise(3, 163, 4)
    found = probability_of_overfitting(returns)
    assert len(found.logits) == 12_870
    parts = np.array_split(np.arange(163), 16)
    picks = list(combinations(range(16), 8))
    for number in range(0, 12_870, 97):
        inside = np.concatenate([parts[block] for block in picks[number]])
        outside = np.setdiff1d(np.arange(163), inside)
        here, there = (returns[rows].mean(0) / returns[rows].std(0, ddof=1) for rows in (inside, outside))
        rank = stats.rankdata(there)[here.argmax()]
        assert found.logits[number] == pytest.approx(math.log(rank / (5 - rank)), abs=1e-12)
        assert found.in_sample[number] == pytest.approx(here.max(), abs=1e-12)
        assert found.out_of_sample[number] == pytest.approx(there[here.argmax()], abs=1e-12)


# PSR, minimum track record, DSR


@given(records(), st.floats(0.0, 0.3), st.floats(0.01, 0.4))
def test_psr_grows_with_the_sharpe_ratio(record: TrackRecord, benchmark: float, more: float) -> None:
    # The expansion turns around where skew times Sharpe ratio gets near 2; these stay below.
    better = TrackRecord(record.sharpe + more, record.rows, record.skew, record.kurtosis)
    assert probabilistic_sharpe(better, benchmark).probability >= probabilistic_sharpe(record, benchmark).probability


@given(records(), st.floats(-0.5, 0.5), st.integers(1, 1000))
def test_more_rows_make_a_claim_surer_whichever_way_it_goes(record: TrackRecord, benchmark: float, more: int) -> None:
    longer = TrackRecord(record.sharpe, record.rows + more, record.skew, record.kurtosis)
    before, after = (probabilistic_sharpe(one, benchmark).probability for one in (record, longer))
    assert after >= before if record.sharpe >= benchmark else after <= before


@given(records(), st.floats(-0.5, 0.5), st.floats(0.51, 0.999))
def test_a_record_is_long_enough_exactly_when_its_psr_reaches_the_confidence(
    record: TrackRecord, benchmark: float, confidence: float
) -> None:
    probability = probabilistic_sharpe(record, benchmark).probability
    if abs(probability - confidence) > 1e-9:
        assert minimum_track_record(record, benchmark, confidence).enough == (probability > confidence)


@given(records(), st.floats(1.0, 1e6), st.floats(1.0, 1e6), st.floats(1e-8, 1.0))
def test_dsr_is_at_most_psr_and_falls_with_trials(record: TrackRecord, one: float, other: float, variance: float) -> None:
    fewer, more = (deflated_sharpe(record, Trials(number, variance)) for number in sorted((one, other)))
    assert 0.0 <= fewer.benchmark <= more.benchmark
    assert more.probability <= fewer.probability <= fewer.undeflated == probabilistic_sharpe(record).probability


@given(st.integers(2, 3000), st.floats(1e-8, 1.0), st.floats(1.0, 100.0))
def test_deflation_grows_with_the_spread_of_the_trials(trials: int, variance: float, factor: float) -> None:
    assert expected_maximum_sharpe(trials, factor * variance) == pytest.approx(factor**0.5 * expected_maximum_sharpe(trials, variance))


@pytest.mark.parametrize("trials", [3, 10, 100])
def test_expected_maximum_is_that_of_worthless_trials(trials: int) -> None:
    drawn = 0.1 * np.random.default_rng(0).normal(size=(20_000, trials)).max(axis=1)
    assert expected_maximum_sharpe(trials, 0.01) == pytest.approx(drawn.mean(), rel=0.035)


def test_dsr_stops_the_best_of_worthless_searches() -> None:
    """Undeflated, the best of 40 worthless trials reaches 95 % nearly nine times in ten.

    Deflated it does so less than one time in twenty: the best of many varies less than a single one.
    """
    deflated = undeflated = 0
    for seed in range(200):
        returns = noise(seed, 250, 40)
        sharpes = returns.mean(0) / returns.std(0, ddof=1)
        found = deflated_sharpe(returns[:, sharpes.argmax()], sharpes)
        deflated += found.probability >= 0.95
        undeflated += found.undeflated >= 0.95
    assert deflated <= 0.05 * 200
    assert undeflated >= 0.75 * 200


@given(st.integers(0, 10**6), st.integers(3, 200), st.floats(1e-6, 1e6))
def test_moments_are_those_of_scipy_and_free_of_scale(seed: int, rows: int, scale: float) -> None:
    returns = np.random.default_rng(seed).gamma(2.0, size=rows) - 1.5
    found = track_record(scale * returns)
    expected = (returns.mean() / returns.std(ddof=1), stats.skew(returns), stats.kurtosis(returns, fisher=False))
    assert (found.sharpe, found.skew, found.kurtosis) == pytest.approx(expected, rel=1e-8, abs=1e-9)
    assert found.rows == rows


def test_a_pruned_trial_counts_among_those_tried() -> None:
    record = TrackRecord(0.15, 1000, 0.0, 3.0)
    sharpes = np.array([0.15, 0.02, -0.03, 0.08])
    found = deflated_sharpe(record, np.append(sharpes, [np.nan, np.nan]))
    assert (found.trials.number, found.trials.variance) == (6, pytest.approx(sharpes.var(ddof=1)))
    assert found.probability < deflated_sharpe(record, sharpes).probability
    assert deflated_sharpe(record, sharpes[::-1]) == deflated_sharpe(record, sharpes)


def test_a_single_trial_is_no_search() -> None:
    record = TrackRecord(0.1, 300, 0.0, 3.0)
    assert deflated_sharpe(record, Trials(1, 0.0)).probability == probabilistic_sharpe(record).probability


def test_effective_number_lies_between_one_and_all() -> None:
    series = noise(0, 400, 3)
    copies = np.repeat(series, [5, 2, 1], axis=1) * np.arange(1.0, 9.0)
    assert effective_trials(copies, "clusters") == 3
    assert 3 < effective_trials(copies) < 8
    for method in ("correlation", "clusters"):
        assert effective_trials(series[:, :1], method) == 1
        assert effective_trials(np.repeat(series[:, :1], 6, axis=1), method) == pytest.approx(1)
        assert effective_trials(noise(1, 4000, 6), method) == pytest.approx(6, abs=0.1)
        # Two that rise when the other falls are not fewer than two.
        assert effective_trials(np.column_stack([series[:, 0], -series[:, 0]]), method) == 2
        unknown = np.column_stack([copies, np.zeros(400), np.full(400, np.nan)])
        assert effective_trials(unknown, method) == pytest.approx(effective_trials(copies, method) + 2)


@pytest.mark.parametrize(
    ("returns", "words"),
    [
        (np.array([1.0, -1.0]), "at least 3"),
        (np.array([1.0, np.nan, 2.0, 0.5]), "1 of 4 returns are NaN"),
        (np.array([1.0, -np.inf, 2.0, 0.5]), "infinite"),
        (np.full(50, 0.1), "returns that vary"),
        (np.zeros(50), "returns that vary"),
        (np.ones((5, 2)), "one dimension"),
    ],
)
def test_returns_that_allow_no_statement_are_refused(returns: np.ndarray, words: str) -> None:
    for statistic in (probabilistic_sharpe, minimum_track_record, lambda given: deflated_sharpe(given, Trials(10, 0.01))):
        with pytest.raises(DataRefusedError, match=words):
            statistic(returns)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.1, 100, 0.0, 0.0), "not its excess"),
        ((0.1, 2, 0.0, 3.0), "at least 3"),
        ((math.nan, 100, 0.0, 3.0), "finite"),
        ((0.1, 100, 0.0, math.inf), "finite"),
    ],
)
def test_impossible_moments_are_refused(values: tuple[float, int, float, float], words: str) -> None:
    with pytest.raises(DataRefusedError, match=words):
        TrackRecord(*values)


def test_a_vanishing_standard_error_is_refused() -> None:
    """Two values only, and a skew of 2 over the Sharpe ratio: the formula would be certain."""
    with pytest.raises(DataRefusedError, match="vanishes"):
        probabilistic_sharpe(TrackRecord(2.0, 100, 1.0, 2.0))


@pytest.mark.parametrize(
    "sharpes",
    [np.array([]), np.array([0.1]), np.array([0.1, np.nan, np.nan]), np.full(10, 0.1), np.array([0.1, np.inf]), np.ones((2, 2))],
    ids=["none", "one", "one of three", "all the same", "infinite", "matrix"],
)
def test_trials_that_say_nothing_of_the_search_are_refused(sharpes: np.ndarray) -> None:
    with pytest.raises(DataRefusedError):
        deflated_sharpe(TrackRecord(0.3, 1000, 0.0, 3.0), sharpes)


@pytest.mark.parametrize(("number", "variance"), [(0, 0.1), (0.5, 0.1), (math.nan, 0.1), (10, -0.1), (10, math.nan), (math.inf, 0.1)])
def test_impossible_numbers_of_trials_are_refused(number: float, variance: float) -> None:
    for build in (Trials, expected_maximum_sharpe):
        with pytest.raises(DataRefusedError):
            build(number, variance)


def test_impossible_settings_are_refused() -> None:
    record = TrackRecord(0.1, 100, 0.0, 3.0)
    for confidence in (0.5, 1.0, 95.0, math.nan):
        with pytest.raises(SettingsError, match="confidence"):
            minimum_track_record(record, confidence=confidence)
    with pytest.raises(DataRefusedError, match="benchmark"):
        probabilistic_sharpe(record, math.nan)
    with pytest.raises(SettingsError, match="threshold"):
        effective_trials(noise(0), "clusters", threshold=0.0)
    with pytest.raises(SettingsError, match="method"):
        effective_trials(noise(0), "silhouette")  # type: ignore[arg-type]


# Probability of backtest overfitting


def test_worthless_trials_overfit_half_of_the_time() -> None:
    """One estimate scatters by some 0.2, so 100 of them have a standard error of 0.02."""
    found = [probability_of_overfitting(noise(seed, 400, 20), 10).probability for seed in range(100)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


def test_worthless_trials_of_an_odd_number_count_the_median_as_overfit() -> None:
    found = [probability_of_overfitting(noise(seed, 200, 3), 6).probability for seed in range(150)]
    assert np.mean(found) == pytest.approx(2 / 3, abs=0.06)


def test_one_truly_good_trial_is_found_again() -> None:
    for seed in range(5):
        returns = noise(seed, 1600, 50)
        returns[:, 17] += 0.25
        found = probability_of_overfitting(returns)
        assert found.probability <= 0.01
        assert found.probability_of_loss <= 0.01
        assert found.out_of_sample.mean() == pytest.approx(0.25, abs=0.1)


def test_trials_that_pay_back_what_they_earn_always_overfit() -> None:
    """Each trial's total is 0, so what one half wins the other loses and the best becomes the worst."""
    returns = noise(0, 320, 20)
    returns -= returns.mean(axis=0)
    for statistic, tolerance in ((mean_return, 1e-9), (sharpe, 0.1)):
        found = probability_of_overfitting(returns, 16, statistic)
        assert found.probability == 1.0
        assert found.probability_of_loss == 1.0
        assert found.slope == pytest.approx(-1.0, abs=tolerance)


def test_line_is_that_of_least_squares_and_loss_is_below_zero() -> None:
    found = probability_of_overfitting(noise(5), 8)
    assert found.probability_of_loss == np.mean(found.out_of_sample < 0.0)
    assert 0.0 < found.probability_of_loss < np.mean(found.out_of_sample < 0.1)
    slope, intercept = np.polyfit(found.in_sample, found.out_of_sample, 1)
    assert (found.slope, found.intercept) == pytest.approx((slope, intercept))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.floats(1e-5, 1e5))
def test_neither_the_order_of_trials_nor_their_size_matters(seed: int, coarse: bool, scale: float) -> None:
    """Coarse returns bring many ties; a multiple of a trial has the same Sharpe ratio."""
    rng = np.random.default_rng(seed)
    returns = rng.integers(-1, 2, (24, 7)).astype(float) if coarse else rng.normal(size=(24, 7))
    returns[:, 6] = 3.7 * returns[:, 2]
    found = probability_of_overfitting(returns, 6)
    moved = probability_of_overfitting(scale * returns[:, rng.permutation(7)], 6)
    assert moved.logits == pytest.approx(found.logits, abs=1e-9)
    assert moved.out_of_sample == pytest.approx(found.out_of_sample, abs=1e-7)
    assert moved.probability == found.probability


def test_the_memory_bound_changes_nothing_but_the_memory() -> None:
    returns = noise(2, 640, 300)
    whole = probability_of_overfitting(returns, 14)
    returns_by_piece = probability_of_overfitting(returns, 14, memory_mb=1.0)
    np.testing.assert_array_equal(whole.logits, returns_by_piece.logits)
    tracemalloc.start()
    probability_of_overfitting(noise(2, 64, 2000), 16, memory_mb=50.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


def test_pruned_trials_are_left_out_and_counted() -> None:
    returns = noise(4, 320, 8)
    pruned = np.insert(returns, [0, 5], np.nan, axis=1)
    pruned[:300, 0] = 9.0
    found, whole = probability_of_overfitting(pruned, 8), probability_of_overfitting(returns, 8)
    assert (found.trials, found.left_out) == (8, 2)
    np.testing.assert_array_equal(found.logits, whole.logits)


def test_a_trial_that_never_trades_scores_nothing_and_stays_ranked() -> None:
    """Beside a losing and a winning trial it is always the second: rank 2 of 3."""
    spread = np.tile([1.0, -1.0], 80)
    returns = np.column_stack([spread + 0.2, np.zeros(160), spread - 0.2])
    found = probability_of_overfitting(returns, 8)
    assert (found.trials, found.constant, found.probability) == (3, 1, 0.0)
    assert found.in_sample == pytest.approx(found.out_of_sample)
    found = probability_of_overfitting(returns[:, 1:], 8)
    assert (found.in_sample == 0.0).all()
    assert found.probability == 0.0
    assert math.isnan(found.slope)


def test_ties_share_their_rank_in_and_out_of_sample() -> None:
    """One trial trades in the first half only: best there and level after it; level in the second and best before it."""
    returns = np.zeros((40, 3))
    returns[:20, 1] = 1.0 + noise(0, 20, 1)[:, 0]
    found = probability_of_overfitting(returns, 2)
    assert found.logits.tolist() == [0.0, 0.0]
    assert found.probability == 1.0
    assert found.in_sample[1] == found.out_of_sample[0] == 0.0
    assert found.out_of_sample[1] == pytest.approx(found.in_sample[0] / 3)


@pytest.mark.parametrize("level", [0.0, 0.1, 1e9 / 3])
def test_a_half_without_variation_does_not_win_by_rounding(level: float) -> None:
    """A trial that stands still for half of the history must not get a huge Sharpe ratio there."""
    returns = 0.05 * noise(1, 320, 5) + 0.02
    returns[:160, 4] = level
    returns[160:, 4] = level - 1.0 + noise(2, 160, 1)[:, 0]
    found = probability_of_overfitting(returns, 4)
    assert np.abs(found.in_sample).max() < 1e9
    halves = list(combinations(range(4), 2))
    assert found.in_sample[halves.index((0, 1))] == pytest.approx((returns[:160, :4].mean(0) / returns[:160, :4].std(0, ddof=1)).max())


@pytest.mark.parametrize(
    ("returns", "blocks", "words"),
    [
        (noise(0, 320, 1), 8, "1 complete trial"),
        (np.column_stack([noise(0, 320, 1), np.full((320, 4), np.nan)]), 8, "of 5"),
        (np.full((320, 4), np.nan), 8, "0 complete trial"),
        (np.empty((320, 0)), 8, "0 complete trial"),
        (noise(0, 10, 5), 16, "10 row"),
        (noise(0, 31, 5), 16, "at least 2 a block, 32"),
        (np.empty((0, 5)), 16, "0 row"),
        (np.zeros((320, 5)), 8, "nothing to choose"),
        (np.tile([0.1, 0.2, 0.3], (320, 1)), 8, "nothing to choose"),
        (np.repeat(noise(0, 320, 1), 6, axis=1), 8, "nothing to choose"),
        (noise(0, 320, 1) * np.array([1.0, 2.0, 3.3]), 8, "nothing to choose"),
    ],
    ids=[
        "one",
        "one complete",
        "all NaN",
        "none",
        "few rows",
        "one row a block",
        "no rows",
        "never trade",
        "constant",
        "copies",
        "multiples",
    ],
)
def test_what_cannot_be_judged_is_not_judged_and_passes_no_limit(returns: np.ndarray, blocks: int, words: str) -> None:
    found = probability_of_overfitting(returns, blocks)
    assert not found.judged
    assert words in found.reason
    assert not found.probability <= 1.0
    assert len(found.logits) == len(found.in_sample) == len(found.out_of_sample) == 0


@pytest.mark.parametrize("blocks", [0, -2, 1, 7, 15, 22])
def test_an_odd_or_absurd_number_of_blocks_is_refused(blocks: int) -> None:
    with pytest.raises(SettingsError, match=f"{blocks} blocks"):
        probability_of_overfitting(noise(0), blocks)


def test_bad_returns_and_statistics_are_refused() -> None:
    returns = noise(0)
    infinite = returns.copy()
    infinite[5, 3] = np.inf
    for bad in (infinite, returns[:, 0], 1e200 * returns):
        with pytest.raises(DataRefusedError):
            probability_of_overfitting(bad, 8)
    with pytest.raises(DataRefusedError, match="not finite"):
        probability_of_overfitting(returns, 8, lambda mean, deviation: np.where(mean > 0.0, mean, np.nan))
    with pytest.raises(DataRefusedError, match="statistic"):
        probability_of_overfitting(returns, 8, lambda mean, deviation: mean.sum(axis=1))
    with pytest.raises(AmiralError, match="memory"):
        probability_of_overfitting(returns, 8, memory_mb=0.0)
    with pytest.raises(DataRefusedError):
        effective_trials(infinite)
    with pytest.raises(DataRefusedError):
        effective_trials(returns[:2])


def test_results_cannot_be_changed() -> None:
    returns = noise(0)
    before = returns.copy()
    found = probability_of_overfitting(returns, 8)
    for values in (found.logits, found.in_sample, found.out_of_sample):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0.0
    np.testing.assert_array_equal(returns, before)
