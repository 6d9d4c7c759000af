from __future__ import annotations

import numpy as np
import pytest

from models.calibration import raw_scores
from models.linear import build, coefficients
from models.preparation import ClipAndFill
from pipelines.errors import InputError
from pipelines.features.twelve import FEATURES
from pipelines.settings import load_settings

SETTINGS = load_settings().train.linear
KINDS = ("classification", "regression")


def world(seed: int = 0, rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.uniform(-1, 1, (rows, 12))
    label = (features[:, 1] + rng.normal(0, 1, rows) > 0).astype(float)
    features[rng.random(features.shape) < 0.1] = np.nan
    return features, label


def test_statistics_come_from_the_rows_of_fit_alone() -> None:
    features, _ = world()
    fill = ClipAndFill(0.01).fit(features)
    present = [column[~np.isnan(column)] for column in features.T]
    np.testing.assert_allclose(fill.median_, [np.median(column) for column in present])
    np.testing.assert_allclose(fill.lower_, [np.quantile(column, 0.01) for column in present])
    np.testing.assert_allclose(fill.upper_, [np.quantile(column, 0.99) for column in present])


def test_missing_values_take_the_median_and_raise_their_flag() -> None:
    features, _ = world()
    fill = ClipAndFill(0.01).fit(features)
    out = fill.transform(np.full((1, 12), np.nan))
    np.testing.assert_array_equal(out, np.hstack([fill.median_[None], np.ones((1, 12))]))
    wild = fill.transform(np.full((1, 12), 1e9))
    np.testing.assert_array_equal(wild, np.hstack([fill.upper_[None], np.zeros((1, 12))]))


def test_infinite_values_are_refused() -> None:
    features, _ = world()
    features[3, 5] = -np.inf
    with pytest.raises(InputError, match=r"row 3, column 5: -inf.*finite numbers"):
        ClipAndFill(0.01).fit(features)


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_never_seen_is_ignored_also_when_a_value_turns_up(kind: str) -> None:
    features, label = world()
    features[:, 4] = np.nan
    pipeline = build(kind, SETTINGS, clip_quantile=0.01).fit(features, label)
    probe = features.copy()
    probe[:, 4] = np.random.default_rng(1).uniform(-1, 1, len(probe))
    scores = raw_scores(pipeline, features)
    assert np.isfinite(scores).all()
    # The flag's weight has nothing to stand on: it never changed in training.
    np.testing.assert_allclose(raw_scores(pipeline, probe), scores, atol=1e-3)
    assert coefficients(pipeline)[FEATURES[4]] == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_constant_columns_and_no_features_at_all_do_not_crash(kind: str) -> None:
    features, label = world()
    features[:, 7] = 0.5
    constant = build(kind, SETTINGS, clip_quantile=0.01).fit(features, label)
    assert coefficients(constant)[FEATURES[7]] == pytest.approx(0.0, abs=1e-12)
    nothing = np.full_like(features, np.nan)
    scores = raw_scores(build(kind, SETTINGS, clip_quantile=0.01).fit(nothing, label), nothing)
    np.testing.assert_allclose(scores, label.mean(), atol=1e-3)


def test_a_flag_that_was_hardly_ever_set_does_not_decide() -> None:
    features, label = world(rows=2000)
    features = np.nan_to_num(features)
    features[0, 3] = np.nan
    pipeline = build("classification", SETTINGS, clip_quantile=0.01).fit(features, label)
    probe = np.zeros((2, 12))
    probe[1, 3] = np.nan
    with_value, without = raw_scores(pipeline, probe)
    assert abs(with_value - without) < 0.05


def test_coefficients_carry_the_sign_of_the_driver() -> None:
    features, label = world(rows=2000)
    for kind in KINDS:
        found = coefficients(build(kind, SETTINGS, clip_quantile=0.01).fit(features, label))
        assert max(found, key=lambda name: abs(found[name]) if name != "intercept" else 0.0) == FEATURES[1]
        assert found[FEATURES[1]] > 0
        assert len(found) == 25


def test_the_probability_is_of_the_positive_class() -> None:
    features, label = world()
    pipeline = build("classification", SETTINGS, clip_quantile=0.01).fit(features, label)
    scores = raw_scores(pipeline, features)
    assert scores[label == 1].mean() > scores[label == 0].mean()
