from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product
from typing import Any, Literal, Self

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline

from models.artifact import open_session, run_session
from models.calibration import fit_calibrator, fit_sigmoid, raw_scores
from models.ensemble import MEMBERS, EnsembleFilter, agreement
from models.export import to_onnx
from models.families import FAMILIES
from models.results import Evaluation
from models.training import train_family
from pipelines.dataset import Dataset
from pipelines.settings import Ensemble, load_settings
from pipelines.splits import PurgedWalkForward, embargo_ns
from pipelines.weights import sample_weights
from tests.models.training import quick_settings
from tests.models.worlds import make_dataset

Combination = Literal["voting", "weighted", "stacking"]
COMBINATIONS: tuple[Combination, ...] = ("voting", "weighted", "stacking")
ROWS = 900
TARGET = "profitability"
SETTINGS = quick_settings(
    "train.forest.trees=6",
    "train.xgboost.trees=6",
    # At the shipped weight a leaf wants more rows than this small world has.
    "train.xgboost.min_child_weight=1.0",
    "ladder.min_trades.ensemble=500",
)
SHIPPED = load_settings().train.ensemble


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset(ROWS, seed=11, auc=0.68)


def train(dataset: Dataset) -> Evaluation:
    found = train_family(dataset, "ensemble", SETTINGS, targets=[TARGET])
    assert not found.failures, found.failures
    return found.models[0].evaluation


@pytest.fixture(scope="module")
def evaluation(dataset: Dataset) -> Evaluation:
    return train(dataset)


def with_label(dataset: Dataset, rows: np.ndarray, values: np.ndarray) -> Dataset:
    frame = dataset.frame.copy()
    frame.loc[rows, f"target.{TARGET}"] = values
    return replace(dataset, frame=frame)


def build(combination: Combination = "stacking") -> EnsembleFilter:
    settings = SETTINGS.train.ensemble.model_copy(update={"combination": combination})
    spec = FAMILIES["ensemble"].model(TARGET)
    estimator: EnsembleFilter = FAMILIES["ensemble"].build(spec, SETTINGS)
    estimator.set_params(settings=settings)
    return estimator


def fit(dataset: Dataset, label: np.ndarray | None = None, combination: Combination = "stacking") -> EnsembleFilter:
    label = dataset.target(TARGET) if label is None else label
    weight = sample_weights(dataset.start, dataset.end, SETTINGS.weights)
    return build(combination).fit(dataset.features, label, sample_weight=weight, start=dataset.start, end=dataset.end)


@pytest.fixture(scope="module")
def fitted(dataset: Dataset) -> EnsembleFilter:
    return fit(dataset)


# --- stacking without leakage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_the_labels_of_a_fold_change_nothing_that_was_fitted_without_it(fold: int, dataset: Dataset, evaluation: Evaluation) -> None:
    rows = evaluation.oof_rows[evaluation.oof_folds == fold]
    shuffled = np.random.default_rng(fold).permutation(dataset.target(TARGET)[rows])
    assert (shuffled != dataset.target(TARGET)[rows]).mean() > 0.2
    again = train(with_label(dataset, rows, shuffled))
    np.testing.assert_array_equal(again.oof_rows, evaluation.oof_rows)
    for number in range(SETTINGS.splits.folds):
        one, other = (item.oof_predictions[item.oof_folds == number] for item in (evaluation, again))
        if number <= fold:
            np.testing.assert_array_equal(one, other)
            assert evaluation.fold_train_scores[number] == again.fold_train_scores[number]
        else:
            assert (one != other).any()
    # The final model is fitted on the train part, which holds all or most of every fold.
    assert (again.test_predictions != evaluation.test_predictions).any()


def test_the_labels_of_the_test_part_change_no_prediction(dataset: Dataset, evaluation: Evaluation) -> None:
    rows = evaluation.test_rows
    again = train(with_label(dataset, rows, 1.0 - dataset.target(TARGET)[rows]))
    np.testing.assert_array_equal(again.oof_predictions, evaluation.oof_predictions)
    np.testing.assert_array_equal(again.test_predictions, evaluation.test_predictions)
    assert again.details == evaluation.details
    assert again.test_score == pytest.approx(1.0 - evaluation.test_score)


def test_the_labels_of_purged_rows_change_nothing(dataset: Dataset, evaluation: Evaluation) -> None:
    last = evaluation.oof_rows[evaluation.oof_folds == SETTINGS.splits.folds - 1]
    before_test = np.arange(last.max() + 1, evaluation.test_rows.min())
    again = train(with_label(dataset, before_test, 1.0 - dataset.target(TARGET)[before_test]))
    np.testing.assert_array_equal(again.oof_predictions, evaluation.oof_predictions)
    np.testing.assert_array_equal(again.test_predictions, evaluation.test_predictions)

    # Trades that still ran, or had just ended, when the last fold's test rows began: no fold learns from them.
    inside = dataset.end[: last.min()] >= dataset.start[last.min()] - embargo_ns(SETTINGS.splits)
    before_fold = np.flatnonzero(inside)
    assert len(before_test)
    assert len(before_fold) >= 14
    again = train(with_label(dataset, before_fold, 1.0 - dataset.target(TARGET)[before_fold]))
    np.testing.assert_array_equal(again.oof_predictions, evaluation.oof_predictions)


def inner_folds(dataset: Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    embargo = embargo_ns(SETTINGS.splits)
    folds = PurgedWalkForward(SETTINGS.calibration.folds, dataset.start, dataset.end, embargo=embargo)
    return list(folds.split(np.empty(len(dataset))))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("part", ["tested last", "purged before the last"])
def test_what_the_stacker_learns_from_was_scored_without_it(dataset: Dataset, fitted: EnsembleFilter, seed: int, part: str) -> None:
    train_rows, last = inner_folds(dataset)[-1]
    rows = last if part == "tested last" else np.arange(train_rows.max() + 1, last.min())
    label = dataset.target(TARGET).copy()
    label[rows] = np.random.default_rng(seed).permutation(1.0 - label[rows])
    again = fit(dataset, label)
    np.testing.assert_array_equal(again.out_of_fold_rows_, fitted.out_of_fold_rows_)
    np.testing.assert_array_equal(again.out_of_fold_scores_, fitted.out_of_fold_scores_)
    # They are labels of the stacker and of the members that are kept, so these do change.
    assert again.stacker_ != fitted.stacker_


def test_labels_of_an_early_block_change_later_scores_only(dataset: Dataset, fitted: EnsembleFilter) -> None:
    (_, first), (_, second) = inner_folds(dataset)
    label = dataset.target(TARGET).copy()
    label[first] = 1.0 - label[first]
    again = fit(dataset, label)
    same = np.isin(fitted.out_of_fold_rows_, first)
    np.testing.assert_array_equal(again.out_of_fold_scores_[same], fitted.out_of_fold_scores_[same])
    assert (again.out_of_fold_scores_[~same] != fitted.out_of_fold_scores_[~same]).any()
    np.testing.assert_array_equal(fitted.out_of_fold_rows_, np.concatenate([first, second]))


def test_a_members_score_of_a_row_comes_from_a_model_of_the_rows_before_it(dataset: Dataset, fitted: EnsembleFilter) -> None:
    weight = sample_weights(dataset.start, dataset.end, SETTINGS.weights)
    label = dataset.target(TARGET)
    for train_rows, tested in inner_folds(dataset):
        inside = np.isin(fitted.out_of_fold_rows_, tested)
        for column, name in enumerate(MEMBERS):
            member = clone(fitted.members[name])
            member.fit(dataset.features[train_rows], label[train_rows], model__sample_weight=weight[train_rows])
            np.testing.assert_array_equal(fitted.out_of_fold_scores_[inside, column], raw_scores(member, dataset.features[tested]))


def test_stacker_and_calibrations_are_fitted_to_these_scores_alone(dataset: Dataset, fitted: EnsembleFilter) -> None:
    rows, scores = fitted.out_of_fold_rows_, fitted.out_of_fold_scores_
    label = dataset.target(TARGET)[rows]
    weight = sample_weights(dataset.start, dataset.end, SETTINGS.weights)[rows]
    penalty = SETTINGS.train.ensemble.stacking_penalty
    assert fitted.stacker_ == fit_sigmoid(scores, label, weight, least=0.0, penalty=penalty)
    for column, name in enumerate(MEMBERS):
        assert fitted.calibrators_[name] == fit_calibrator(scores[:, column], label, weight, SETTINGS.calibration)


def test_training_hands_over_weights_and_intervals_of_its_own_rows(dataset: Dataset, evaluation: Evaluation) -> None:
    rows = evaluation.train_rows
    start, end = dataset.start[rows], dataset.end[rows]
    weight = sample_weights(start, end, SETTINGS.weights)
    model = build().fit(dataset.features[rows], dataset.target(TARGET)[rows], sample_weight=weight, start=start, end=end)
    assert len(model.out_of_fold_rows_) > len(rows) // 2
    # On one thread or more, BLAS may round differently.
    np.testing.assert_allclose(raw_scores(model, dataset.features[evaluation.test_rows]), evaluation.test_predictions, rtol=1e-9)
    assert [evaluation.details[f"stacking_slope_{name}"] for name in MEMBERS] == pytest.approx(list(model.stacker_.slopes), rel=1e-6)


# --- the combinations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [2, 3, 4])
def test_agreement_is_the_share_of_pairs_that_vote_alike(members: int) -> None:
    votes = np.array(list(product([False, True], repeat=members)))
    by_hand = [np.mean([one == other for one, other in combinations(row, 2)]) for row in votes.tolist()]
    np.testing.assert_allclose(agreement(votes), by_hand, rtol=1e-15)
    np.testing.assert_array_equal(agreement(votes), agreement(~votes))


def test_agreement_of_three_is_one_or_a_third() -> None:
    assert set(agreement(np.array(list(product([False, True], repeat=3)))).tolist()) == {1.0, 1 / 3}


def test_the_combinations_by_hand(dataset: Dataset, fitted: EnsembleFilter) -> None:
    found = fitted.combine(dataset.features)
    raw = np.array([fitted.members_[name].predict_proba(dataset.features)[:, 1] for name in MEMBERS])
    inside = np.clip(raw, 1e-3, 1.0 - 1e-3)
    np.testing.assert_array_equal(inside, raw)
    calibrated = np.array(
        [
            expit(fitted.calibrators_[name].slopes[0] * logit(scores) + fitted.calibrators_[name].intercept)  # type: ignore[union-attr]
            for name, scores in zip(MEMBERS, raw, strict=True)
        ]
    )
    np.testing.assert_allclose(found.voting, calibrated.sum(axis=0) / 3.0, rtol=1e-12)
    np.testing.assert_allclose(found.weighted, 0.2 * calibrated[0] + 0.5 * calibrated[1] + 0.3 * calibrated[2], rtol=1e-12)
    slopes, intercept = fitted.stacker_.slopes, fitted.stacker_.intercept
    stacked = expit(intercept + sum(slope * logit(scores) for slope, scores in zip(slopes, raw, strict=True)))
    np.testing.assert_allclose(found.stacking, stacked, rtol=1e-12)
    np.testing.assert_array_equal(found.lowest, calibrated.min(axis=0))
    weight = sample_weights(dataset.start, dataset.end, SETTINGS.weights)
    assert fitted.base_rate_ == pytest.approx((weight * dataset.target(TARGET)).sum() / weight.sum())
    votes = calibrated >= fitted.base_rate_
    alike = [np.mean([votes[one] == votes[other] for one, other in combinations(range(3), 2)], axis=0)]
    np.testing.assert_allclose(found.agreement, alike[0])
    assert 0.3 < found.agreement.mean() < 1.0


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_the_settings_choose_the_combination_that_is_the_score(combination: Combination, dataset: Dataset) -> None:
    model = fit(dataset, combination=combination)
    combined = model.combine(dataset.features)
    both = model.predict_proba(dataset.features)
    np.testing.assert_array_equal(both[:, 1], getattr(combined, combination))
    np.testing.assert_allclose(both.sum(axis=1), 1.0, rtol=1e-15)
    others = [getattr(combined, name) for name in COMBINATIONS if name != combination]
    assert all((both[:, 1] != other).any() for other in others)


def test_the_filter_approves_from_the_minimum_confidence_on(dataset: Dataset, fitted: EnsembleFilter) -> None:
    scores = fitted.predict_proba(dataset.features)[:, 1]
    edge = float(np.sort(scores)[len(scores) // 2])
    strict = clone(fitted)
    for name, value in vars(fitted).items():
        setattr(strict, name, value)
    strict.set_params(settings=fitted.settings.model_copy(update={"min_confidence": edge}))
    np.testing.assert_array_equal(strict.predict(dataset.features), scores >= edge)
    assert strict.predict(dataset.features).sum() == len(scores) - len(scores) // 2


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_onnx_gives_score_agreement_and_the_lowest_as_python_does(combination: Combination, dataset: Dataset) -> None:
    model = fit(dataset, combination=combination)
    rng = np.random.default_rng(0)
    usual = rng.uniform(-1, 1, (300, 12))
    inputs = np.vstack([dataset.features, usual, np.where(rng.random(usual.shape) < 0.4, np.nan, usual), np.full((1, 12), np.nan)])
    session = open_session(to_onnx(model))
    combined = model.combine(inputs)
    assert [item.name for item in session.get_outputs()] == ["score", "agreement", "lowest"]
    for name, wanted in (("score", getattr(combined, combination)), ("lowest", combined.lowest)):
        np.testing.assert_allclose(run_session(session, name, inputs), wanted, rtol=0.0, atol=1e-5)
    raw = np.column_stack([raw_scores(member, inputs) for member in model.members_.values()])
    calibrated = np.column_stack([model.calibrators_[name](raw[:, column]) for column, name in enumerate(MEMBERS)])
    # Beside the threshold of the votes rounding decides.
    clear = (np.abs(calibrated - model.base_rate_) > 1e-6).all(axis=1)
    assert clear.mean() > 0.95
    np.testing.assert_allclose(run_session(session, "agreement", inputs)[clear], combined.agreement[clear], atol=1e-6)


# --- the stacker -------------------------------------------------------------------------------------------------


@given(
    data=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.booleans(), st.floats(0.05, 5)), min_size=2, max_size=80)
)
@hypothesis_settings(max_examples=50, deadline=None)
def test_no_slope_is_ever_negative(data: list[tuple[float, float, float, bool, float]]) -> None:
    table = np.array(data, dtype=np.float64)
    stacker = fit_sigmoid(table[:, :3], table[:, 3], table[:, 4], least=0.0, penalty=SHIPPED.stacking_penalty)
    assert np.isfinite([*stacker.slopes, stacker.intercept]).all()
    assert min(stacker.slopes) >= 0.0
    # So no member's higher score lowers the result.
    higher = np.clip(table[:, :3] + [0.0, 0.1, 0.0], 0.0, 1.0)
    assert (stacker(higher) >= stacker(table[:, :3]) - 1e-12).all()


class Reads(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A model that says what stands in one column, whatever it was fitted on."""

    classes_ = np.array([0, 1])

    def __init__(self, column: int) -> None:
        self.column = column

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: Any = None) -> Self:
        self.fitted_ = True
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return np.column_stack([1.0 - X[:, self.column], X[:, self.column]])


def stacked(scores: np.ndarray, label: np.ndarray, settings: Ensemble = SHIPPED) -> EnsembleFilter:
    """An ensemble whose members give the three columns of `scores`."""
    members = {name: Pipeline([("model", Reads(column))]) for column, name in enumerate(MEMBERS)}
    return EnsembleFilter(members, settings, SETTINGS.calibration).fit(scores, label)


@pytest.mark.parametrize("wise", [0, 1, 2])
def test_the_member_that_knows_gets_the_weight(wise: int) -> None:
    rng = np.random.default_rng(wise)
    scores = rng.uniform(0.2, 0.8, (1500, 3))
    chance = rng.uniform(0.05, 0.95, 1500)
    scores[:, wise] = chance
    label = (rng.random(1500) < chance).astype(float)
    model = stacked(scores, label)
    slopes = dict(zip(MEMBERS, model.stacker_.slopes, strict=True))
    assert slopes[MEMBERS[wise]] == pytest.approx(1.0, abs=0.15)
    assert all(slope < 0.3 for name, slope in slopes.items() if name != MEMBERS[wise])
    assert roc_auc_score(label, model.combine(scores).stacking) > roc_auc_score(label, model.combine(scores).voting)


def test_a_member_that_points_the_wrong_way_is_left_out() -> None:
    rng = np.random.default_rng(3)
    chance = rng.uniform(0.05, 0.95, 1500)
    label = (rng.random(1500) < chance).astype(float)
    model = stacked(np.column_stack([chance, 1.0 - chance, rng.uniform(0.3, 0.7, 1500)]), label)
    assert model.stacker_.slopes[1] == 0.0
    assert model.stacker_.slopes[0] > 0.8


def test_little_evidence_leaves_the_mean_of_the_logits() -> None:
    rng = np.random.default_rng(4)
    scores = rng.uniform(0.45, 0.55, (400, 3))
    label = (rng.random(400) < 0.36).astype(float)
    model = stacked(scores, label)
    assert model.stacker_.slopes == pytest.approx((1 / 3,) * 3, abs=0.1)
    odds, mean = logit(model.combine(scores).stacking), logit(scores).mean(axis=1)
    assert np.corrcoef(odds, mean)[0, 1] > 0.97
    assert model.combine(scores).stacking.mean() == pytest.approx(label[model.out_of_fold_rows_].mean(), abs=0.02)
    # Without the pull the stacker takes the noise for knowledge.
    free = stacked(scores, label, SHIPPED.model_copy(update={"stacking_penalty": 0.0}))
    assert np.abs(np.array(free.stacker_.slopes) - 1 / 3).max() > 0.3


@pytest.mark.parametrize("label", [np.zeros(200), np.arange(200) % 2 * (np.arange(200) < 60.0)])
def test_with_nothing_to_learn_from_the_stacker_is_the_mean_of_the_logits(label: np.ndarray) -> None:
    scores = np.random.default_rng(5).uniform(0.2, 0.8, (200, 3))
    model = stacked(scores, label)
    np.testing.assert_allclose(logit(model.combine(scores).stacking), logit(scores).mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(model.combine(scores).voting, scores.mean(axis=1), atol=1e-12)


# --- the estimator -----------------------------------------------------------------------------------------------


def test_clone_parameters_and_the_unfitted_estimator(dataset: Dataset, fitted: EnsembleFilter) -> None:
    copy = clone(fitted)
    assert set(copy.get_params(deep=False)) == {"members", "settings", "calibration", "embargo_ns"}
    assert (copy.settings, copy.calibration, copy.embargo_ns) == (fitted.settings, SETTINGS.calibration, embargo_ns(SETTINGS.splits))
    assert tuple(copy.members) == MEMBERS
    assert all(copy.members[name] is not fitted.members[name] for name in MEMBERS)
    for ask in (copy.combine, copy.predict_proba, copy.predict):
        with pytest.raises(NotFittedError):
            ask(dataset.features)


def test_members_that_were_handed_in_stay_unfitted(dataset: Dataset, fitted: EnsembleFilter) -> None:
    for name in MEMBERS:
        with pytest.raises(NotFittedError):
            fitted.members[name].predict_proba(dataset.features)


def test_a_second_fit_gives_the_same_bits(dataset: Dataset, fitted: EnsembleFilter) -> None:
    again = fit(dataset)
    assert to_onnx(again) == to_onnx(fitted)
    np.testing.assert_array_equal(again.predict_proba(dataset.features), fitted.predict_proba(dataset.features))


def test_an_early_block_of_one_class_is_left_out_for_every_member(dataset: Dataset) -> None:
    label = dataset.target(TARGET).copy()
    label[: ROWS // 3] = 0.0
    model = fit(dataset, label)
    np.testing.assert_array_equal(model.out_of_fold_rows_, np.arange(2 * ROWS // 3, ROWS))
    assert model.out_of_fold_scores_.shape == (ROWS // 3, 3)
    assert np.isfinite(model.predict_proba(dataset.features)).all()


def test_the_evaluation_says_what_each_combination_is_worth(evaluation: Evaluation) -> None:
    assert {f"{name}_roc_auc" for name in COMBINATIONS} | {"agreement", "approved_share"} <= set(evaluation.metrics)
    assert evaluation.metrics["stacking_roc_auc"] == evaluation.metrics["roc_auc"] == evaluation.test_score
    assert set(evaluation.details) == {f"stacking_slope_{name}" for name in MEMBERS}
    assert np.mean(evaluation.fold_scores) > 0.55
