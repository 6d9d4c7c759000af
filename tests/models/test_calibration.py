from __future__ import annotations

from itertools import pairwise
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline

from models import metrics
from models.artifact import open_session, run_session
from models.calibration import (
    IDENTITY,
    CalibratedClassifier,
    CalibratedRegressor,
    Calibrator,
    HeldOutClassifier,
    Isotonic,
    Sigmoid,
    fit_calibrator,
    fit_sigmoid,
    out_of_fold,
    raw_scores,
)
from models.export import parity, to_onnx
from models.linear import build as build_linear
from models.trees import build_forest
from pipelines.settings import Calibration, load_settings
from pipelines.splits import assert_no_leakage

SIGMOID = load_settings(overrides=["calibration.method=sigmoid"]).calibration
ISOTONIC = load_settings(overrides=["calibration.method=isotonic"]).calibration
METHODS = (SIGMOID, ISOTONIC)
NAMES = [settings.method for settings in METHODS]
FEW = SIGMOID.bins
HOUR = 3_600_000_000_000
GRID = np.linspace(0.0, 1.0, 401)
TRAIN = load_settings(overrides=["train.forest.trees=8"]).train

cases = st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans(), st.floats(0.01, 10.0)), min_size=1, max_size=120)


def believed(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True chances, scores that misstate them (their cube), and what happened."""
    rng = np.random.default_rng(seed)
    chance = rng.uniform(0.2, 0.95, count)
    return chance, chance**3, (rng.random(count) < chance).astype(float)


# --- from scores to probabilities --------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", METHODS, ids=NAMES)
@given(rows=cases)
@example(rows=[(0.3, False, 1.0)] * 30 + [(np.nextafter(0.3, 1.0), True, 1.0)] * 30)
@example(rows=[(0.3, True, 1.0)] * 30 + [(0.3, False, 3.0)] * 30)
@example(rows=[(0.0, False, 1.0)] * 17 + [(0.0, True, 1.0), (1.0 - 2**-53, False, 2.0), (1.0, False, 1.0)])
@example(rows=[(0.0, True, 1.0)] * 30 + [(1.0, False, 1.0)] * 30)
@example(rows=[(0.0, False, 1.0)] * 30 + [(1.0, True, 1.0)] * 30)
@hypothesis_settings(max_examples=60, deadline=None)
def test_a_higher_score_is_never_a_lower_probability(settings: Calibration, rows: list[tuple[float, bool, float]]) -> None:
    scores, labels, weight = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    calibrator = fit_calibrator(scores, labels, weight, settings)
    found = calibrator(np.sort(np.concatenate([GRID, scores, [-0.5, 1.5]])))
    assert np.isfinite(found).all()
    assert (np.diff(found) >= -1e-12).all()
    assert found.min() >= 0.0
    assert found.max() <= 1.0


@given(rows=cases)
@hypothesis_settings(max_examples=60, deadline=None)
def test_the_sigmoid_keeps_the_order_of_scores(rows: list[tuple[float, bool, float]]) -> None:
    scores, labels, weight = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    calibrator = fit_calibrator(scores, labels, weight, SIGMOID)
    assert isinstance(calibrator, Sigmoid)
    assert calibrator.slopes[0] >= SIGMOID.min_slope
    odds = calibrator.slopes[0] * logit(np.linspace(0.01, 0.99, 50)) + calibrator.intercept
    assert (np.diff(odds) > 0.0).all()


@pytest.mark.parametrize("settings", METHODS, ids=NAMES)
def test_a_score_that_misstates_its_chance_is_brought_back(settings: Calibration) -> None:
    _, scores, labels = believed(3000, seed=1)
    calibrator = fit_calibrator(scores, labels, None, settings)
    chance, fresh, outcome = believed(3000, seed=2)
    found = metrics.calibration(outcome, fresh, calibrator(fresh), 10)
    assert found["brier"] < found["brier_raw"] - 0.02
    assert found["calibration_error"] < 0.3 * found["calibration_error_raw"]
    assert np.abs(calibrator(fresh) - chance).mean() < 0.04


@pytest.mark.parametrize("settings", METHODS, ids=NAMES)
def test_a_good_probability_is_left_about_as_it_was(settings: Calibration) -> None:
    chance, _, labels = believed(3000, seed=3)
    assert np.abs(fit_calibrator(chance, labels, None, settings)(chance) - chance).mean() < 0.03


def test_the_sigmoid_finds_the_slope_and_the_intercept_that_made_the_labels() -> None:
    rng = np.random.default_rng(4)
    scores = rng.uniform(0.1, 0.9, 20_000)
    labels = (rng.random(20_000) < expit(0.5 * logit(scores) - 0.7)).astype(float)
    found = fit_calibrator(scores, labels, None, SIGMOID)
    assert isinstance(found, Sigmoid)
    assert found.slopes[0] == pytest.approx(0.5, abs=0.05)
    assert found.intercept == pytest.approx(-0.7, abs=0.05)


def test_scores_that_point_the_wrong_way_are_flattened_and_not_turned_round() -> None:
    chance, _, labels = believed(2000, seed=5)
    wrong = 1.0 - chance
    sigmoid = fit_calibrator(wrong, labels, None, SIGMOID)
    assert isinstance(sigmoid, Sigmoid)
    assert sigmoid.slopes == (SIGMOID.min_slope,)
    steeper = fit_calibrator(wrong, labels, None, SIGMOID.model_copy(update={"min_slope": 0.4}))
    assert isinstance(steeper, Sigmoid)
    assert steeper.slopes == (0.4,)
    isotonic = fit_calibrator(wrong, labels, None, ISOTONIC)
    assert np.ptp(isotonic(GRID)) < 0.05
    for calibrator in (sigmoid, isotonic):
        assert calibrator(wrong).mean() == pytest.approx(labels.mean(), abs=0.01)


@pytest.mark.parametrize("settings", METHODS, ids=NAMES)
def test_the_mean_probability_is_the_share_of_winners(settings: Calibration) -> None:
    _, scores, labels = believed(800, seed=6)
    weight = np.random.default_rng(7).uniform(0.2, 2.0, 800)
    found = fit_calibrator(scores, labels, weight, settings)
    assert np.average(found(scores), weights=weight) == pytest.approx(np.average(labels, weights=weight), abs=0.02)


@pytest.mark.parametrize("settings", METHODS, ids=NAMES)
def test_with_nothing_to_learn_from_the_scores_stay(settings: Calibration) -> None:
    scores = believed(200, seed=8)[1]
    assert fit_calibrator(scores, np.zeros(200), None, settings) == IDENTITY
    assert fit_calibrator(scores, np.ones(200), None, settings) == IDENTITY
    assert fit_calibrator(np.empty(0), np.empty(0), None, settings) == IDENTITY
    alternating = (np.arange(200) % 2).astype(float)
    assert fit_calibrator(scores[: FEW - 1], alternating[: FEW - 1], None, settings) == IDENTITY
    assert fit_calibrator(scores[:FEW], alternating[:FEW], None, settings) != IDENTITY
    inside = np.linspace(0.001, 0.999, 99)
    np.testing.assert_allclose(IDENTITY(inside), inside, atol=1e-12)


@pytest.mark.parametrize("settings", METHODS, ids=NAMES)
def test_a_weight_of_two_is_the_same_trade_twice(settings: Calibration) -> None:
    _, scores, labels = believed(200, seed=9)
    weight = np.random.default_rng(10).integers(1, 4, 200)
    weighed = fit_calibrator(scores, labels, weight.astype(float), settings)
    repeated = fit_calibrator(np.repeat(scores, weight), np.repeat(labels, weight), None, settings)
    np.testing.assert_allclose(weighed(GRID), repeated(GRID), atol=1e-6)
    assert np.abs(weighed(GRID) - fit_calibrator(scores, labels, None, settings)(GRID)).max() > 1e-3


@pytest.mark.parametrize("settings", METHODS, ids=NAMES)
def test_the_scale_of_the_weights_means_little(settings: Calibration) -> None:
    _, scores, labels = believed(500, seed=11)
    one, other = (fit_calibrator(scores, labels, np.full(500, size), settings) for size in (1.0, 2.0))
    np.testing.assert_allclose(one(GRID), other(GRID), atol=0.02)


@pytest.mark.parametrize("gap", [1e-9, 1e-4, 0.2])
def test_a_few_lucky_scores_do_not_make_certainty(gap: float) -> None:
    # Models that could not learn give one score each; that their blocks ended differently says nothing about a score of 0.9.
    scores = np.repeat([0.30, 0.30 + gap], 100)
    labels = np.concatenate([np.arange(100) < 25, np.arange(100) < 45]).astype(float)
    calibrator = fit_calibrator(scores, labels, None, SIGMOID)
    assert isinstance(calibrator, Sigmoid)
    assert calibrator.slopes[0] < 2.0
    assert calibrator(np.array([0.9]))[0] < 0.99


def test_perfect_scores_give_a_steep_but_finite_sigmoid() -> None:
    scores = np.concatenate([np.linspace(0.1, 0.4, 100), np.linspace(0.6, 0.9, 100)])
    calibrator = fit_calibrator(scores, (scores > 0.5).astype(float), None, SIGMOID)
    assert isinstance(calibrator, Sigmoid)
    assert calibrator.slopes[0] < 50.0


def test_the_penalty_pulls_several_slopes_to_their_mean() -> None:
    rng = np.random.default_rng(12)
    scores = rng.uniform(0.2, 0.8, (400, 2))
    labels = (rng.random(400) < scores[:, 0]).astype(float)
    weight = np.ones(400)
    free, held = (fit_sigmoid(scores, labels, weight, least=0.0, penalty=penalty) for penalty in (0.0, 1e6))
    assert free.slopes[0] > 0.7 > 0.3 > free.slopes[1]
    assert held.slopes == pytest.approx((0.5, 0.5), abs=1e-3)


# --- which rows the calibration is learnt from -------------------------------------------------------------------


class Log(list[tuple[str, np.ndarray]]):
    """What every copy of a spy did: clones write into the same list."""

    def __deepcopy__(self, memo: Any) -> Self:
        return self


class Spy(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Knows the label of the rows that it was fitted on by heart, and nothing else; column 0 is the row's number."""

    classes_ = np.array([0, 1])

    def __init__(self, log: Log, seed: int = 0) -> None:
        self.log = log
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Self:
        self.known_ = dict(zip(X[:, 0].astype(int).tolist(), y.tolist(), strict=True))
        self.weight_ = sample_weight
        self.log.append(("fit", X[:, 0].astype(int)))
        if sample_weight is not None:
            self.log.append(("weight", sample_weight))
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        rows = X[:, 0].astype(int)
        self.log.append(("ask", rows))
        guess = np.random.default_rng(self.seed).uniform(0.05, 0.95, 100_000)
        sure = [0.05 + 0.9 * self.known_[row] if row in self.known_ else guess[row] for row in rows.tolist()]
        return np.column_stack([1.0 - np.array(sure), sure])


class ValueSpy(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A regression that gives back column 1, whatever it was fitted on."""

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Self:
        self.fitted_ = True
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X[:, 1]


def spied(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """X, labels, weights and overlapping label intervals of trades about an hour apart."""
    rng = np.random.default_rng(seed)
    start = np.sort(rng.integers(0, count, count)) * HOUR
    end = start + rng.integers(0, 30, count) * HOUR
    inputs = np.column_stack([np.arange(count), rng.uniform(0.0, 1.0, (count, 11))])
    return inputs, (rng.random(count) < 0.4).astype(float), rng.uniform(0.5, 1.5, count), start, end


def pairs(log: Log) -> list[tuple[np.ndarray, np.ndarray]]:
    """(fitted on, asked about) of every inner model, in order."""
    steps = [step for step in log if step[0] != "weight"]
    return [(fit[1], ask[1]) for fit, ask in pairwise(steps) if (fit[0], ask[0]) == ("fit", "ask")]


@given(count=st.integers(60, 300), folds=st.integers(2, 6), embargo=st.integers(0, 30), seed=st.integers(0, 5))
@hypothesis_settings(max_examples=30, deadline=None)
def test_no_inner_model_is_asked_about_rows_near_those_it_was_fitted_on(count: int, folds: int, embargo: int, seed: int) -> None:
    inputs, label, weight, start, end = spied(count, seed)
    settings = SIGMOID.model_copy(update={"folds": folds})
    log = Log()
    model = CalibratedClassifier(Pipeline([("model", Spy(log))]), settings, embargo * HOUR)
    model.fit(inputs, label, sample_weight=weight, start=start, end=end)
    inner = pairs(log)
    assume(inner)  # an embargo longer than the first blocks leaves no fold
    for fitted, asked in inner:
        assert_no_leakage(fitted, asked, start, end, embargo=embargo * HOUR)
        assert fitted.max() < asked.min()
        assert len(np.unique(label[fitted])) == 2
    every = np.concatenate([asked for _, asked in inner])
    assert len(np.unique(every)) == len(every)
    # The model that is kept learns from all rows, and is not asked about any.
    assert log[-2][0] == "fit"
    np.testing.assert_array_equal(log[-2][1], np.arange(count))
    np.testing.assert_array_equal(log[-1][1], weight)


def test_without_intervals_the_rows_are_instants() -> None:
    inputs, label, *_ = spied(200)
    log = Log()
    CalibratedClassifier(Pipeline([("model", Spy(log))]), SIGMOID, 3).fit(inputs, label)
    gaps = [asked.min() - fitted.max() for fitted, asked in pairs(log)]
    assert gaps == [4] * SIGMOID.folds


@pytest.mark.parametrize("settings", METHODS, ids=NAMES)
def test_what_a_model_knows_by_heart_does_not_count(settings: Calibration) -> None:
    inputs, label, _, start, end = spied(800)
    model = CalibratedClassifier(Pipeline([("model", Spy(Log()))]), settings, HOUR).fit(inputs, label, start=start, end=end)
    # Sure of every row that it has seen, and wrong to be: nothing that it said of unseen rows was worth anything.
    assert np.ptp(model.raw(inputs)) == pytest.approx(0.9)
    assert np.ptp(model.predict_proba(inputs)[:, 1]) < 0.35
    assert model.predict_proba(inputs)[:, 1].mean() == pytest.approx(label.mean(), abs=0.05)


def test_every_inner_model_gets_the_weights_of_its_rows() -> None:
    inputs, label, weight, start, end = spied(200)
    log = Log()
    out_of_fold(Pipeline([("model", Spy(log))]), inputs, label, weight, start, end, folds=3, embargo_ns=HOUR)
    fitted = [rows for kind, rows in log if kind == "fit"]
    given_weights = [values for kind, values in log if kind == "weight"]
    assert len(fitted) == len(given_weights) == 3
    for rows, values in zip(fitted, given_weights, strict=True):
        np.testing.assert_array_equal(values, weight[rows])


@pytest.mark.parametrize("settings", METHODS, ids=NAMES)
def test_the_calibration_is_fitted_to_the_out_of_fold_scores_with_the_weights_of_their_rows(settings: Calibration) -> None:
    inputs, label, weight, start, end = spied(400)
    pipeline = Pipeline([("model", Spy(Log()))])
    model = CalibratedClassifier(pipeline, settings, HOUR).fit(inputs, label, sample_weight=weight, start=start, end=end)
    rows, scores = out_of_fold(pipeline, inputs, label, weight, start, end, folds=settings.folds, embargo_ns=HOUR)
    assert model.calibrator_ == fit_calibrator(scores, label[rows], weight[rows], settings)
    assert model.calibrator_ != fit_calibrator(scores, label[rows], None, settings)


def test_a_first_fold_of_one_class_or_without_rows_is_left_out() -> None:
    inputs, label, _, start, end = spied(200)
    label[:50] = 0.0
    log = Log()
    rows, scores = out_of_fold(Pipeline([("model", Spy(log))]), inputs, label, None, start, end, folds=3, embargo_ns=0)
    np.testing.assert_array_equal(rows, np.arange(100, 200))
    assert len(scores) == 100
    assert len(pairs(log)) == 2

    rows, scores = out_of_fold(Pipeline([("model", Spy(Log()))]), inputs, label, None, start, end, folds=3, embargo_ns=10_000 * HOUR)
    assert (len(rows), len(scores)) == (0, 0)
    model = CalibratedClassifier(Pipeline([("model", Spy(Log()))]), SIGMOID, 10_000 * HOUR).fit(inputs, label, start=start, end=end)
    assert model.calibrator_ == IDENTITY


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_handful_of_rows_does_not_crash(count: int) -> None:
    inputs, _, _, start, end = spied(count)
    label = (np.arange(count) % 2).astype(float)
    model = CalibratedClassifier(Pipeline([("model", Spy(Log()))]), SIGMOID, 0).fit(inputs, label, start=start, end=end)
    assert np.isfinite(model.predict_proba(inputs)).all()


def test_labels_after_the_last_inner_training_row_move_the_calibration_only() -> None:
    inputs, label, weight, start, end = spied(400)
    pipeline = Pipeline([("model", Spy(Log()))])
    one = out_of_fold(pipeline, inputs, label, weight, start, end, folds=3, embargo_ns=HOUR)
    turned = label.copy()
    turned[300:] = 1.0 - turned[300:]
    two = out_of_fold(pipeline, inputs, turned, weight, start, end, folds=3, embargo_ns=HOUR)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


# --- the estimators ----------------------------------------------------------------------------------------------


def world(seed: int = 0, rows: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = rng.uniform(-1, 1, (rows, 12))
    label = (inputs[:, 1] + rng.normal(0, 1, rows) > 0.3).astype(float)
    inputs[rng.random(inputs.shape) < 0.1] = np.nan
    return inputs, label


def pipelines() -> dict[str, Pipeline]:
    return {
        "linear": build_linear("classification", TRAIN.linear, clip_quantile=0.01),
        "forest": build_forest("log", TRAIN.forest, clip_quantile=0.01, seed=1),
    }


def test_clone_and_parameters() -> None:
    pipeline = pipelines()["linear"]
    for kind in (CalibratedClassifier, CalibratedRegressor):
        model = kind(pipeline, SIGMOID, 7)
        parameters = model.get_params()
        assert (parameters["estimator"], parameters["calibration"], parameters["embargo_ns"]) == (pipeline, SIGMOID, 7)
        assert parameters["estimator__model__C"] == TRAIN.linear.c
        fitted = model.fit(*world(rows=100))
        copy = clone(fitted)
        assert not hasattr(copy, "estimator_")
        assert (copy.calibration, copy.embargo_ns) == (SIGMOID, 7)
        assert copy.estimator is not pipeline
        assert copy.set_params(estimator__model__C=3.0).estimator.named_steps["model"].C == 3.0
        assert pipeline.get_params()["model__C"] == TRAIN.linear.c


def test_fitting_leaves_the_estimator_that_was_handed_in_alone() -> None:
    pipeline = pipelines()["forest"]
    CalibratedClassifier(pipeline, SIGMOID).fit(*world(rows=100))
    assert not hasattr(pipeline.named_steps["model"], "estimators_")


def test_an_unfitted_model_refuses_to_answer() -> None:
    inputs, _ = world(rows=5)
    classifier, regressor = CalibratedClassifier(pipelines()["linear"], SIGMOID), CalibratedRegressor(pipelines()["linear"], None)
    for ask in (classifier.predict_proba, classifier.predict, classifier.raw, regressor.predict):
        with pytest.raises(NotFittedError):
            ask(inputs)


@pytest.mark.parametrize("settings", METHODS, ids=NAMES)
def test_probabilities_of_both_classes(settings: Calibration) -> None:
    inputs, label = world()
    model = CalibratedClassifier(pipelines()["forest"], settings).fit(inputs, label)
    both = model.predict_proba(inputs)
    assert both.shape == (len(inputs), 2)
    assert both.dtype == np.float64
    np.testing.assert_allclose(both.sum(axis=1), 1.0, rtol=1e-15)
    assert model.calibrator_ is not None
    np.testing.assert_array_equal(both[:, 1], model.calibrator_(model.raw(inputs)))
    np.testing.assert_array_equal(model.predict(inputs), both[:, 1] >= 0.5)
    assert model.classes_.tolist() == [0, 1]
    assert model.n_features_in_ == 12


def test_without_a_calibration_the_scores_are_the_models_own() -> None:
    inputs, label = world()
    plain = pipelines()["forest"].fit(inputs, label)
    classifier = CalibratedClassifier(pipelines()["forest"], None).fit(inputs, label)
    np.testing.assert_array_equal(raw_scores(classifier, inputs), raw_scores(plain, inputs))
    values = CalibratedRegressor(build_forest("squared", TRAIN.forest, clip_quantile=0.0, seed=0), None).fit(inputs, 100.0 * label)
    assert values.calibrator_ is None
    assert values.predict(inputs).max() > 2.0


@pytest.mark.parametrize("settings", METHODS, ids=NAMES)
def test_a_regression_that_leaves_the_unit_interval_becomes_a_probability(settings: Calibration) -> None:
    rng = np.random.default_rng(13)
    chance = rng.uniform(0.0, 1.0, 1500)
    inputs = np.column_stack([np.arange(1500), 2.0 * chance - 0.5, np.zeros((1500, 10))])
    label = (rng.random(1500) < chance).astype(float)
    model = CalibratedRegressor(Pipeline([("model", ValueSpy())]), settings).fit(inputs, label)
    found = model.predict(inputs)
    assert found.shape == (1500,)
    assert 0.0 <= found.min() <= found.max() <= 1.0
    assert np.mean((found - label) ** 2) < np.mean((model.raw(inputs) - label) ** 2)


class HoldsOut(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Keeps the last third away from itself and says 0.9 of a row where column 0 is positive, else 0.1."""

    classes_ = np.array([0, 1])

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: Any = None, start: Any = None, end: Any = None) -> Self:
        self.seen_ = (sample_weight, start, end)
        self.validation_rows_ = np.arange(2 * len(X) // 3, len(X))
        self.validation_raw_ = self.predict_proba(X[self.validation_rows_])[:, 1]
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        positive = np.where(X[:, 0] > 0.0, 0.9, 0.1)
        return np.column_stack([1.0 - positive, positive])


def test_held_out_rows_alone_calibrate_a_model_that_holds_out_by_itself() -> None:
    rng = np.random.default_rng(14)
    inputs = rng.uniform(-1, 1, (900, 3))
    label = (rng.random(900) < np.where(inputs[:, 0] > 0.0, 0.6, 0.4)).astype(float)
    start, weight = np.arange(900), rng.uniform(0.5, 1.5, 900)
    model = HeldOutClassifier(HoldsOut(), SIGMOID).fit(inputs, label, sample_weight=weight, start=start, end=start)
    for handed, wanted in zip(model.estimator_.seen_, (weight, start, start), strict=True):
        np.testing.assert_array_equal(handed, wanted)
    poisoned = label.copy()
    poisoned[:600] = 1.0
    again = HeldOutClassifier(HoldsOut(), SIGMOID).fit(inputs, poisoned, sample_weight=weight, start=start, end=start)
    assert again.calibrator_ == model.calibrator_
    assert model.predict_proba(np.array([[0.5, 0.0, 0.0]]))[0, 1] == pytest.approx(0.6, abs=0.07)
    plain = HeldOutClassifier(HoldsOut(), None).fit(inputs, label)
    assert set(plain.predict_proba(inputs)[:, 1]) == {0.1, 0.9}


# --- ONNX --------------------------------------------------------------------------------------------------------


def probes() -> np.ndarray:
    rng = np.random.default_rng(15)
    usual = rng.uniform(-1, 1, (400, 12))
    holes = np.where(rng.random(usual.shape) < 0.4, np.nan, usual)
    return np.vstack([usual, holes, np.full((1, 12), np.nan), 50.0 * usual[:20]])


@pytest.mark.parametrize("settings", METHODS, ids=NAMES)
@pytest.mark.parametrize("family", ["linear", "forest"])
def test_a_calibrated_pipeline_scores_in_onnx_as_in_python(family: str, settings: Calibration) -> None:
    model = CalibratedClassifier(pipelines()[family], settings).fit(*world(rows=900))
    assert np.ptp(raw_scores(model, probes())) > 0.05
    assert parity(model, to_onnx(model), probes()) <= 1e-5


def with_calibrator(calibrator: Calibrator, *, sharp: bool) -> CalibratedClassifier:
    """A fitted model with this calibration in place of its own; a sharp one is sure of nearly everything."""
    inputs, label = world(rows=300)
    settings = TRAIN.linear.model_copy(update={"c": 1e3 if sharp else 0.1})
    label = (np.nan_to_num(inputs[:, 1]) > 0.0).astype(float) if sharp else label
    model = CalibratedClassifier(build_linear("classification", settings, clip_quantile=0.0), None).fit(inputs, label)
    model.calibrator_ = calibrator
    return model


@pytest.mark.parametrize(
    "calibrator",
    [
        IDENTITY,
        Sigmoid((0.05,), 0.0),
        Sigmoid((0.2,), -2.0),
        Sigmoid((0.5,), -4.0),
        Sigmoid((3.0,), 1.0),
        Isotonic((0.0, 0.5, 1.0), (0.1, 0.4, 0.9)),
        Isotonic((0.3, 0.4, 0.6), (0.2, 0.2, 0.7)),
        Isotonic((0.3, 0.6), (0.4, 0.4)),
        Isotonic((0.35,), (0.3,)),
    ],
)
@pytest.mark.parametrize("sharp", [False, True])
def test_every_calibration_in_onnx(calibrator: Calibrator, sharp: bool) -> None:
    model = with_calibrator(calibrator, sharp=sharp)
    if sharp:
        raw = model.raw(probes())
        assert raw.min() < 1e-4
        assert raw.max() > 1.0 - 1e-4
    assert parity(model, to_onnx(model), probes()) <= 1e-5
    found = run_session(open_session(to_onnx(model)), "score", probes())
    assert found.min() >= 0.0
    assert found.max() <= 1.0


@pytest.mark.parametrize("settings", METHODS, ids=NAMES)
def test_identical_scores_in_onnx(settings: Calibration) -> None:
    _, label = world()
    nothing = np.full((len(label), 12), np.nan)
    for pipeline in pipelines().values():
        model = CalibratedClassifier(pipeline, settings).fit(nothing, label)
        assert parity(model, to_onnx(model), probes()) <= 1e-5
        assert raw_scores(model, nothing)[0] == pytest.approx(label.mean(), abs=0.1)


@pytest.mark.parametrize("gap", [1e-9, 1e-7, 1e-5])
def test_scores_that_almost_coincide_give_no_step_that_float32_cannot_follow(gap: float) -> None:
    scores = np.repeat([0.3, 0.3 + gap, 0.6], 40)
    labels = np.concatenate([np.zeros(40), np.ones(80)])
    calibrator = fit_calibrator(scores, labels, None, ISOTONIC)
    for near in (scores, scores.astype(np.float32).astype(np.float64)):
        np.testing.assert_allclose(calibrator(near), calibrator(near + 1e-7), atol=1e-3)
    model = with_calibrator(calibrator, sharp=False)
    assert parity(model, to_onnx(model), probes()) <= 1e-5
