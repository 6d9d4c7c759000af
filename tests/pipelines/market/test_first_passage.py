from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pipelines.market.first_passage import true_auc, win_probability

DISTANCE = st.floats(0.1, 20)


def simulate(drift: float, stop: float, target: float, seed: int, paths: int = 20_000, step: float = 0.25) -> float:
    """A walk of +-step with the drift and variance of the Brownian motion; it meets both barriers exactly."""
    rng = np.random.default_rng(seed)
    up = 0.5 * (1.0 + drift * step)
    place, low, high = np.zeros(paths, dtype=np.int64), -round(stop / step), round(target / step)
    open_ = np.arange(paths)
    while len(open_):
        place[open_] += np.where(rng.random(len(open_)) < up, 1, -1)
        open_ = open_[(place[open_] > low) & (place[open_] < high)]
    return float((place == high).mean())


@pytest.mark.parametrize(("x_side", "stop", "target"), [(0.0, 2.5, 5.0), (1.5, 2.5, 5.0), (-1.5, 2.5, 5.0), (2.0, 4.0, 2.0)])
def test_monte_carlo(x_side: float, stop: float, target: float) -> None:
    expected = float(win_probability(x_side, 0.1, stop, target))
    error = np.sqrt(expected * (1 - expected) / 20_000)
    assert simulate(0.1 * x_side, stop, target, seed=1) == pytest.approx(expected, abs=4 * error)


@given(st.floats(-3, 3), st.floats(0, 2), DISTANCE, DISTANCE)
def test_a_probability_with_its_mirror_image(x: float, edge: float, stop: float, target: float) -> None:
    win = float(win_probability(x, edge, stop, target))
    mirrored = float(win_probability(-x, edge, target, stop))
    assert 0.0 <= win <= 1.0
    assert win + mirrored == pytest.approx(1.0, abs=1e-9)  # the same path seen from the other side


@given(DISTANCE, DISTANCE)
def test_monotone_in_the_driver_and_neutral_at_zero(stop: float, target: float) -> None:
    win = win_probability(np.linspace(-2.5, 2.5, 51), 0.06, stop, target)
    assert (np.diff(win) >= 0).all()
    assert win[25] == pytest.approx(stop / (stop + target))
    np.testing.assert_allclose(win_probability([-1.0, 1.0], 0.0, stop, target), stop / (stop + target))


def test_extreme_drifts_do_not_overflow() -> None:
    with np.errstate(all="raise", under="ignore"):
        assert win_probability([-1e6, 1e6], 1.0, 5.0, 5.0).tolist() == [0.0, 1.0]


def test_true_auc_is_the_auc_of_many_draws() -> None:
    rng = np.random.default_rng(0)
    p = win_probability(np.clip(rng.standard_normal(400), -2.5, 2.5).round(2), 0.08, 2.5, 5.0)
    many = np.tile(p, 500)
    assert roc_auc_score(rng.random(len(many)) < many, many) == pytest.approx(true_auc(p), abs=0.003)


def test_true_auc_needs_both_outcomes() -> None:
    for p in (0.0, 1.0):
        with pytest.raises(ValueError, match="a chance of both outcomes"):
            true_auc([p, p])
