from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import matthews_corrcoef, precision_score

from models import training
from models.preparation import ClipAndFill
from models.results import Evaluation
from models.training import TrainedModel, policy_multiplier, train_family
from pipelines.dataset import Dataset
from pipelines.errors import DataRefusedError
from pipelines.settings import FAMILIES, Family, Policy, Settings, load_settings
from pipelines.splits import assert_no_leakage, embargo_ns
from tests.models.training import quick_settings, train_all_of, train_linear
from tests.models.worlds import make_dataset

Trained = tuple[TrainedModel, ...]


def fill(model: TrainedModel) -> ClipAndFill:
    step: ClipAndFill = model.estimator.estimator_.named_steps["fill"]
    return step


def with_features(dataset: Dataset, rows: np.ndarray, value: float) -> Dataset:
    frame = dataset.frame.copy()
    frame.loc[rows, [name for name in frame if name.startswith("feature.")]] = value
    return Dataset(frame, dataset.card, dataset.windows)


def test_the_three_models_of_the_domain(trained: Trained) -> None:
    assert [(model.evaluation.target, model.evaluation.kind, model.evaluation.judged_on) for model in trained] == [
        ("signal_quality", "classification", "signal_quality"),
        ("profitability", "classification", "profitability"),
        ("signal_strength", "regression", "realized_r"),
    ]
    assert all(0.6 < model.evaluation.test_score < 0.8 for model in trained[:2])
    assert 0.2 < trained[2].evaluation.test_score < 0.5


def test_what_is_learned_never_overlaps_what_is_scored(trained: Trained, skilled: Dataset, settings: Settings) -> None:
    embargo = embargo_ns(settings.splits)
    for model in trained:
        evaluation = model.evaluation
        assert_no_leakage(evaluation.train_rows, evaluation.test_rows, skilled.start, skilled.end, embargo=embargo)
        assert_no_leakage(evaluation.oof_rows, evaluation.test_rows, skilled.start, skilled.end, embargo=embargo)
        assert len(np.unique(evaluation.oof_rows)) == len(evaluation.oof_rows)
        assert evaluation.rows == {
            "all": 2000,
            "train": len(evaluation.train_rows),
            "validation": evaluation.rows["validation"],
            "test": 400,
        }


def test_outliers_in_the_test_part_leave_the_fitted_model_as_it_was(trained: Trained, skilled: Dataset, settings: Settings) -> None:
    poisoned = train_linear(with_features(skilled, trained[0].evaluation.test_rows, 1.0), settings)
    for before, after in zip(trained, poisoned, strict=True):
        np.testing.assert_array_equal(fill(before).median_, fill(after).median_)
        assert before.evaluation.coefficients == after.evaluation.coefficients
        np.testing.assert_array_equal(before.evaluation.oof_predictions, after.evaluation.oof_predictions)
        assert before.evaluation.test_score != after.evaluation.test_score


def test_the_final_model_does_not_see_the_validation_part(trained: Trained, skilled: Dataset, settings: Settings) -> None:
    evaluation = trained[0].evaluation
    between = np.arange(evaluation.train_rows.max() + 1, evaluation.test_rows.min())
    poisoned = train_linear(with_features(skilled, between, 1.0), settings)[0].evaluation
    assert poisoned.coefficients == evaluation.coefficients
    assert poisoned.validation_score != evaluation.validation_score


def test_outliers_in_a_fold_change_no_earlier_fold(trained: Trained, skilled: Dataset, settings: Settings) -> None:
    evaluation = trained[0].evaluation
    last = evaluation.oof_rows[evaluation.oof_folds == 4]
    poisoned = train_linear(with_features(skilled, last, -1.0), settings)[0].evaluation
    earlier = evaluation.oof_folds < 4
    np.testing.assert_array_equal(evaluation.oof_predictions[earlier], poisoned.oof_predictions[earlier])
    # The last fold's own training statistics did not see its test rows either.
    assert evaluation.fold_train_scores == poisoned.fold_train_scores
    assert evaluation.fold_scores[:4] == poisoned.fold_scores[:4]


def test_the_same_data_give_the_same_bytes(trained: Trained, skilled: Dataset, settings: Settings) -> None:
    again = train_linear(skilled, settings)
    assert [model.evaluation.to_json() for model in again] == [model.evaluation.to_json() for model in trained]


def test_an_evaluation_survives_json(trained: Trained) -> None:
    for model in trained:
        text = model.evaluation.to_json()
        back = Evaluation.from_json(text)
        assert back.to_json() == text
        np.testing.assert_array_equal(back.test_predictions, model.evaluation.test_predictions)
        assert back.policy_performance == model.evaluation.policy_performance


def test_metrics_are_of_the_positive_class(trained: Trained, skilled: Dataset) -> None:
    evaluation = trained[1].evaluation
    label = skilled.target("profitability")[evaluation.test_rows]
    decided = evaluation.test_predictions >= 0.5
    assert evaluation.metrics["precision"] == precision_score(label, decided, pos_label=1)
    assert evaluation.metrics["mcc"] == matthews_corrcoef(label, decided)
    assert evaluation.metrics["brier"] < evaluation.baselines["base_rate_brier"]
    assert evaluation.baselines["majority_accuracy"] == pytest.approx(1 - label.mean())
    assert abs(evaluation.baselines["confidence_score"] - 0.5) < 0.1


def test_policy_and_baseline_are_measured_on_the_same_trades(trained: Trained, skilled: Dataset) -> None:
    for model in trained:
        evaluation = model.evaluation
        pnl = skilled.target("net_pnl")[evaluation.test_rows]
        np.testing.assert_array_equal(evaluation.test_net_pnl, pnl)
        assert evaluation.baseline_performance.total == pytest.approx(pnl.sum())
        assert evaluation.policy_performance.total == pytest.approx((pnl * evaluation.test_multipliers).sum())
        assert evaluation.policy_performance.trades == (evaluation.test_multipliers > 0).sum()
        assert evaluation.policy_performance.expectancy > evaluation.baseline_performance.expectancy


@pytest.mark.parametrize(("count", "missing"), [(0, 500), (499, 1)])
def test_too_few_trades_train_nothing_and_say_how_many_are_missing(count: int, missing: int, settings: Settings) -> None:
    dataset = make_dataset(max(count, 1), seed=0)
    dataset = Dataset(dataset.frame.head(count), dataset.card, dataset.windows[:count])
    with pytest.raises(DataRefusedError, match=f"Linear: {count} of 500 clean trades, {missing} missing"):
        train_family(dataset, "linear", settings)


def test_500_trades_train(settings: Settings) -> None:
    assert len(train_linear(make_dataset(500, seed=0), settings)) == 3


def test_a_model_with_one_class_only_fails_and_the_others_train(settings: Settings) -> None:
    dataset = make_dataset(600, seed=0)
    frame = dataset.frame.assign(**{"target.signal_quality": 0.0})
    found = train_family(Dataset(frame, dataset.card, dataset.windows), "linear", settings)
    assert [model.evaluation.target for model in found.models] == ["profitability", "signal_strength"]
    assert [failure.target for failure in found.failures] == ["signal_quality"]
    assert re.search(r"training trades of a fold have signal_quality = 0.*both classes", found.failures[0].reason)


def test_fewer_trades_than_folds_is_an_error_that_says_so(settings: Settings) -> None:
    many = load_settings(overrides=["splits.folds=450"])
    found = train_family(make_dataset(500, seed=0), "linear", many)
    assert not found.models
    assert all(re.search(r"\d+ trade\(s\) for 450 folds.*at least one trade a fold", failure.reason) for failure in found.failures)


def test_infinite_values_are_refused_with_place_limit_and_remedy(settings: Settings) -> None:
    dataset = make_dataset(600, seed=0)
    frame = dataset.frame.copy()
    frame.loc[7, "feature.session_time"] = np.inf
    found = train_family(Dataset(frame, dataset.card, dataset.windows), "linear", settings)
    assert not found.models
    assert all(re.search(r"infinite value.*row 7.*finite numbers.*mend the source", failure.reason) for failure in found.failures)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_number_of_workers_and_a_second_run_change_no_bit(family: Family, skilled: Dataset) -> None:
    one, two = (train_all_of(skilled, family, quick_settings(f"train.workers={workers}")) for workers in (1, 3))
    for first, second in zip(one, two, strict=True):
        assert first.evaluation.to_json() == second.evaluation.to_json()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_finds_a_strong_edge(family: Family, skilled: Dataset) -> None:
    models = {model.evaluation.target: model.evaluation for model in train_all_of(skilled, family, quick_settings())}
    # Three passes over noise windows are no training for the LSTM: it only has to be clearly better than chance.
    assert models["profitability"].test_score > (0.55 if family == "lstm" else 0.62)


def test_a_trade_without_its_label_takes_part_in_no_fit_and_no_score() -> None:
    dataset = make_dataset(2000, seed=3)
    unknown = np.arange(0, 2000, 7)
    frame = dataset.frame.copy()
    frame.loc[unknown, "target.exit_timing"] = np.nan
    models = train_all_of(Dataset(frame, dataset.card, dataset.windows), "xgboost", quick_settings())
    timing = next(model.evaluation for model in models if model.evaluation.target == "optimal_exit_timing")
    used = np.concatenate([timing.train_rows, timing.test_rows, timing.oof_rows])
    assert not np.isin(used, unknown).any()
    assert np.isfinite(timing.test_predictions).all()


def test_tuned_parameters_replace_those_of_the_file(skilled: Dataset) -> None:
    settings = quick_settings()
    targets = ("profitability", "signal_quality")
    found = train_family(skilled, "xgboost", settings, tuned={"profitability": {"xgboost": {"max_depth": 4}}}, targets=targets)
    depths = {model.evaluation.target: model.evaluation.parameters["max_depth"] for model in found.models}
    assert depths == {"profitability": 4, "signal_quality": settings.train.xgboost.max_depth}
    assert ["tuned_parameters" in model.evaluation.details for model in found.models] == [False, True]
    with pytest.raises(ValidationError, match="max_depth"):
        train_family(skilled, "xgboost", settings, tuned={"profitability": {"xgboost": {"max_depth": 99}}})


def test_features_that_are_always_missing_give_models_without_skill(settings: Settings) -> None:
    dataset = make_dataset(600, seed=1)
    frame = dataset.frame.assign(**{name: np.nan for name in dataset.frame if name.startswith("feature.")})
    models = train_linear(Dataset(frame, dataset.card, dataset.windows), settings)
    assert models[0].evaluation.test_score == 0.5
    assert np.isnan(models[2].evaluation.test_score)


def test_progress_is_told(settings: Settings) -> None:
    told: list[tuple[str, int, int]] = []
    train_family(make_dataset(600, seed=1), "linear", settings, progress=lambda what, done, total: told.append((what, done, total)))
    assert [done for _, done, _ in told] == list(range(1, 19))
    assert {total for *_, total in told} == {18}
    assert {what for what, *_ in told} >= {"signal_quality, fold 1", "profitability, fold 5", "signal_strength, final fit"}


def test_the_policy_by_hand() -> None:
    quantiles = np.linspace(0.0, 1.0, 101)
    policy = Policy(neutral=0.5, max_multiplier=2.0)
    assert policy_multiplier(np.array([0.49, 0.5, 0.9]), quantiles, policy).tolist() == [0.0, 2.0, 2.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.lists(st.floats(0, 1), min_size=2, max_size=30), st.floats(0, 1))
def test_a_higher_score_never_gives_a_smaller_trade(scores: list[float], reference: list[float], neutral: float) -> None:
    quantiles = np.quantile(reference, np.linspace(0, 1, training.QUANTILES))
    multiplier = policy_multiplier(np.sort(scores), quantiles, Policy(neutral=neutral, max_multiplier=1.0))
    assert (np.diff(multiplier) >= 0).all()
    assert set(multiplier) <= {0.0, 1.0}


def test_a_model_without_opinion_takes_every_trade() -> None:
    same = np.full(20, 0.37)
    assert policy_multiplier(same, np.quantile(same, np.linspace(0, 1, 101)), Policy(neutral=0.5, max_multiplier=1.0)).all()


def test_the_world_has_the_auc_it_claims() -> None:
    # The world's own guarantee: its driver ranks with the promised AUC, its days are fourteen trades long.
    dataset = make_dataset(40_000, seed=0, auc=0.62, missing=0.0)
    latent = [dataset.features[:, column] for column in (0, 3, 6)]
    from scipy.stats import norm

    first, second, third = (norm.ppf((column + 1) / 2) for column in latent)
    driver = 0.6 * first + 0.6 * second - np.sqrt(0.28) * third
    from models.metrics import auc

    assert auc(dataset.target("profitability"), driver) == pytest.approx(0.62, abs=0.008)
    assert pd.Series(dataset.trading_days).value_counts().max() == 14
    assert (dataset.start[1:] < dataset.end[:-1]).mean() > 0.3
