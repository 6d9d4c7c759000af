from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from models.gates.bootstrap import bootstrap_scores, draw_days


def rows_of(counts: np.ndarray, day_index: np.ndarray) -> np.ndarray:
    """The rows of one resample, written out."""
    return np.concatenate([np.tile(np.flatnonzero(day_index == day), int(times)) for day, times in enumerate(counts)])


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(8, 60), st.integers(2, 30))
def test_auc_of_every_resample_equals_that_of_its_rows(seed: int, days: int, rows: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    day_index = np.sort(np.concatenate([np.arange(days), rng.integers(0, days, rows)]))
    predictions = rng.integers(0, levels, len(day_index)) / levels  # many ties
    outcome = (rng.random(len(day_index)) < 0.4).astype(float)
    counts = draw_days(days, 7, 1, rng)
    found = bootstrap_scores("classification", outcome, predictions, counts, day_index)
    for score, drawn in zip(found, counts, strict=True):
        chosen = rows_of(drawn, day_index)
        if len(np.unique(outcome[chosen])) < 2:
            assert np.isnan(score)
        else:
            assert score == pytest.approx(roc_auc_score(outcome[chosen], predictions[chosen]), abs=1e-12)


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.integers(2, 8), st.integers(8, 60))
def test_correlation_of_every_resample_equals_that_of_its_rows(seed: int, days: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    day_index = np.sort(np.concatenate([np.arange(days), rng.integers(0, days, rows)]))
    predictions, outcome = rng.normal(size=(2, len(day_index)))
    counts = draw_days(days, 7, 1, rng)
    found = bootstrap_scores("regression", outcome, predictions, counts, day_index)
    for score, drawn in zip(found, counts, strict=True):
        chosen = rows_of(drawn, day_index)
        if len(np.unique(chosen)) > 2:
            assert score == pytest.approx(np.corrcoef(predictions[chosen], outcome[chosen])[0, 1], abs=1e-9)


def test_nothing_to_rank_gives_no_score() -> None:
    counts = np.ones((1, 2))
    days = np.array([0, 0, 1, 1])
    assert np.isnan(bootstrap_scores("classification", np.ones(4), np.arange(4.0), counts, days)).all()
    assert np.isnan(bootstrap_scores("regression", np.arange(4.0), np.full(4, 0.3), counts, days)).all()


@given(st.integers(1, 40), st.integers(1, 6))
def test_every_resample_has_as_many_days_as_there_are(days: int, block: int) -> None:
    counts = draw_days(days, 20, block, np.random.default_rng(0))
    assert counts.shape == (20, days)
    assert (counts.sum(axis=1) == days).all()


def test_blocks_are_of_consecutive_days_around_the_end() -> None:
    counts = draw_days(10, 200, 5, np.random.default_rng(0))
    for drawn in counts:
        # Two runs of five: wherever a day was drawn, a neighbour (in the circle) was drawn too.
        days = np.flatnonzero(drawn)
        assert all(drawn[(day + 1) % 10] or drawn[(day - 1) % 10] for day in days)


def test_days_and_not_trades_are_drawn() -> None:
    """A score that follows the day by chance looks skilled when single trades are drawn; drawing days does not fall for it."""
    by_day = by_trade = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        day_index = np.repeat(np.arange(40), 14)
        predictions = rng.normal(size=40)[day_index] + 0.1 * rng.normal(size=560)
        outcome = (rng.random(560) < rng.random(40)[day_index]).astype(float)
        for single, days in ((False, day_index), (True, np.arange(560))):
            counts = draw_days(days[-1] + 1, 300, 1, rng)
            lower = np.quantile(bootstrap_scores("classification", outcome, predictions, counts, days), 0.025)
            if single:
                by_trade += lower > 0.5
            else:
                by_day += lower > 0.5
    assert by_day <= 5
    assert by_trade >= 2 * by_day + 4
