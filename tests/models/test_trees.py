from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from sklearn.pipeline import Pipeline

from models.calibration import raw_scores
from models.export import parity, to_onnx
from models.families import FAMILIES
from models.training import FamilyTraining, train_family
from models.trees import Loss, build_forest, build_xgboost
from pipelines.dataset import Dataset
from pipelines.errors import InputError
from pipelines.settings import Family, load_settings
from pipelines.splits import assert_no_leakage, embargo_ns
from tests.models.training import quick_settings
from tests.models.worlds import make_dataset

TREES: tuple[Family, ...] = ("forest", "xgboost")
LOSSES: tuple[Loss, ...] = ("log", "squared", "absolute")
ROWS = 900
OVERRIDES = (
    "train.forest.trees=8",
    "train.xgboost.trees=8",
    # At the shipped weight a leaf wants more rows than this small world has.
    "train.xgboost.min_child_weight=2.0",
    "train.xgboost.max_depth=3",
    "ladder.min_trades.forest=500",
    "ladder.min_trades.xgboost=500",
)
SETTINGS = quick_settings(*OVERRIDES)


def build(family: Family, loss: Loss, *, clip_quantile: float = 0.0, seed: int = 1) -> Pipeline:
    if family == "forest":
        return build_forest(loss, SETTINGS.train.forest, clip_quantile=clip_quantile, seed=seed)
    return build_xgboost(loss, SETTINGS.train.xgboost, clip_quantile=clip_quantile, seed=seed)


def world(seed: int = 0, rows: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = rng.uniform(-1, 1, (rows, 12))
    label = (inputs[:, 1] - inputs[:, 4] + rng.normal(0, 0.7, rows) > 0).astype(float)
    return inputs, label


def predictions(found: FamilyTraining) -> Iterator[tuple[str, bytes]]:
    assert not found.failures, found.failures
    for model in found.models:
        evaluation = model.evaluation
        yield evaluation.target, evaluation.oof_predictions.tobytes() + evaluation.test_predictions.tobytes()


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset(ROWS, seed=3, auc=0.68)


@pytest.fixture(scope="module")
def trained(dataset: Dataset) -> dict[Family, FamilyTraining]:
    return {family: train_family(dataset, family, SETTINGS) for family in TREES}


@pytest.mark.parametrize("family", TREES)
def test_every_model_trains_and_finds_the_planted_edge(family: Family, trained: dict[Family, FamilyTraining]) -> None:
    found = trained[family]
    assert not found.failures
    assert [model.evaluation.target for model in found.models] == [spec.target for spec in FAMILIES[family].models]
    scores = {model.evaluation.target: np.mean(model.evaluation.fold_scores) for model in found.models}
    assert min(scores["signal_quality"], scores["profitability"]) > 0.55
    assert min(scores["signal_strength"], scores["pnl_prediction"], scores["confidence_score"]) > 0.08
    for model in found.models:
        if FAMILIES[family].model(model.evaluation.target).probability:
            assert 0.0 <= model.evaluation.oof_predictions.min() <= model.evaluation.oof_predictions.max() <= 1.0
            assert set(model.evaluation.calibration) == {"brier_raw", "brier", "calibration_error_raw", "calibration_error"}


@pytest.mark.parametrize("family", TREES)
def test_neither_the_number_of_workers_nor_a_second_run_changes_a_bit(
    family: Family, dataset: Dataset, trained: dict[Family, FamilyTraining]
) -> None:
    alone = train_family(dataset, family, quick_settings(*OVERRIDES, "train.workers=1"))
    many = train_family(dataset, family, quick_settings(*OVERRIDES, "train.workers=4"))
    assert dict(predictions(alone)) == dict(predictions(trained[family]))
    assert dict(predictions(many)) == dict(predictions(trained[family]))
    for one, other in zip(alone.models, trained[family].models, strict=True):
        assert one.evaluation.to_json() == other.evaluation.to_json()
        assert to_onnx(one.estimator) == to_onnx(other.estimator)


@pytest.mark.parametrize("family", TREES)
def test_the_seed_decides(family: Family) -> None:
    inputs, label = world()
    one, same, other = (raw_scores(build(family, "log", seed=seed).fit(inputs, label), inputs) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("family", TREES)
def test_missing_constant_and_absent_columns(family: Family, loss: Loss) -> None:
    inputs, label = world()
    inputs[np.random.default_rng(1).random(inputs.shape) < 0.2] = np.nan
    inputs[:, 2], inputs[:, 7] = np.nan, 0.25
    model = build(family, loss, clip_quantile=0.01).fit(inputs, label)
    scores = raw_scores(model, inputs)
    assert np.isfinite(scores).all()
    assert np.corrcoef(scores, label)[0, 1] > 0.2
    # What was never seen, or never varied, cannot move a score.
    moved = inputs.copy()
    moved[:, 2], moved[:, 7] = np.random.default_rng(2).uniform(-1, 1, (2, len(inputs)))
    np.testing.assert_array_equal(raw_scores(model, moved), scores)
    assert parity(model, to_onnx(model), np.vstack([inputs, moved])) <= 1e-5


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("family", TREES)
def test_without_any_feature_every_row_has_the_same_score(family: Family, loss: Loss) -> None:
    _, label = world()
    nothing = np.full((len(label), 12), np.nan)
    scores = raw_scores(build(family, loss).fit(nothing, label), nothing)
    assert np.ptp(scores) == 0.0
    if loss != "absolute":
        assert scores[0] == pytest.approx(label.mean(), abs=0.05)


def test_the_absolute_error_of_xgboost_leads_to_the_median() -> None:
    label = np.concatenate([np.zeros(300), np.full(200, 50.0)])
    nothing = np.full((len(label), 12), np.nan)
    assert raw_scores(build("xgboost", "absolute").fit(nothing, label), nothing)[0] == pytest.approx(0.0, abs=1.0)
    assert raw_scores(build("xgboost", "squared").fit(nothing, label), nothing)[0] == pytest.approx(20.0, abs=2.0)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("family", TREES)
def test_infinite_values_are_refused(family: Family, value: float) -> None:
    inputs, label = world(rows=60)
    inputs[17, 5] = value
    with pytest.raises(InputError, match=rf"1 infinite value.*row 17, column 5: {value}.*finite numbers, or NaN.*remedy"):
        build(family, "log").fit(inputs, label)


@pytest.mark.parametrize("family", TREES)
def test_one_broken_model_costs_no_other(family: Family, dataset: Dataset) -> None:
    frame = dataset.frame.assign(**{"target.exit_timing": np.nan, "target.signal_quality": 1.0})
    found = train_family(
        replace(dataset, frame=frame), family, SETTINGS, targets=["signal_quality", "profitability", "optimal_exit_timing"]
    )
    assert [model.evaluation.target for model in found.models] == ["profitability"]
    reasons = {failure.target: failure.reason for failure in found.failures}
    assert set(reasons) == {"signal_quality", "optimal_exit_timing"}
    assert "signal_quality = 1" in reasons["signal_quality"]
    assert "0 trade(s)" in reasons["optimal_exit_timing"]


@pytest.mark.parametrize("family", TREES)
def test_trades_without_an_exit_label_take_no_part(family: Family, dataset: Dataset) -> None:
    blank = np.random.default_rng(4).random(ROWS) < 0.25
    frame = dataset.frame.copy()
    frame.loc[blank, "target.exit_timing"] = np.nan
    partly = replace(dataset, frame=frame)
    (model,) = train_family(partly, family, SETTINGS, targets=["optimal_exit_timing"]).models
    evaluation = model.evaluation
    for rows in (evaluation.oof_rows, evaluation.train_rows, evaluation.test_rows):
        assert len(rows)
        assert not blank[rows].any()
    assert_no_leakage(evaluation.train_rows, evaluation.test_rows, partly.start, partly.end, embargo=embargo_ns(SETTINGS.splits))

    changed = frame.copy()
    changed.loc[blank, [name for name in frame if name.startswith("feature.")]] = 1.0
    changed.loc[blank, ["target.net_pnl", "target.realized_r"]] = 5000.0
    (again,) = train_family(replace(partly, frame=changed), family, SETTINGS, targets=["optimal_exit_timing"]).models
    assert again.evaluation.to_json() == evaluation.to_json()


def thresholds(model: Pipeline) -> list[tuple[int, float]]:
    """(feature, value) of every split on one of the twelve features."""
    trees = model.named_steps["model"]
    if hasattr(trees, "get_booster"):
        table = trees.get_booster().trees_to_dataframe().query("Feature != 'Leaf'")
        found = [(int(name[1:]), value) for name, value in zip(table["Feature"], table["Split"], strict=True)]
    else:
        found = [
            (int(column), float(value))
            for tree in trees.estimators_
            for column, value in zip(tree.tree_.feature, tree.tree_.threshold, strict=True)
            if column >= 0
        ]
    return [(column, value) for column, value in found if column < 12]


def around(splits: list[tuple[int, float]]) -> np.ndarray:
    """Rows that lie on a split, and one float32 step to each side of it."""
    rows = []
    for column, value in splits:
        single = np.float32(value)
        for near in (single, np.nextafter(single, np.float32(-2.0)), np.nextafter(single, np.float32(2.0))):
            row = np.zeros(12)
            row[column] = near
            rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("family", TREES)
def test_rows_on_a_split_go_the_same_way_in_onnx(family: Family, loss: Loss) -> None:
    for inputs in (world()[0], np.round(world()[0] * 8.0) / 8.0, np.round(world()[0], 1)):
        label = (inputs[:, 1] - inputs[:, 4] > 0).astype(float)
        model = build(family, loss).fit(inputs, label)
        splits = thresholds(model)
        assert len(splits) > 8
        assert parity(model, to_onnx(model), np.vstack([around(splits), inputs])) <= 1e-6


@pytest.mark.parametrize("family", TREES)
def test_two_values_that_touch_in_float32_are_told_apart_in_onnx(family: Family) -> None:
    # The split lies between two neighbours, where float32 has no number.
    rng = np.random.default_rng(6)
    low = np.float32(0.3)
    pair = np.array([low, np.nextafter(low, np.float32(1.0))], dtype=np.float64)
    inputs = np.zeros((300, 12))
    label = (np.arange(300) % 2).astype(float)
    inputs[:, :] = pair[np.where(rng.random((300, 12)) < 0.9, label[:, np.newaxis], 1.0 - label[:, np.newaxis]).astype(int)]
    model = build(family, "log").fit(inputs, label)
    assert parity(model, to_onnx(model), inputs) <= 1e-6


def test_the_forest_keeps_to_the_leaf_share() -> None:
    inputs, label = world(rows=1000)
    settings = load_settings(overrides=["train.forest.trees=5", "train.forest.min_leaf_share=0.1", "train.forest.max_samples=1.0"])
    forest = build_forest("log", settings.train.forest, clip_quantile=0.0, seed=0).fit(inputs, label).named_steps["model"]
    for tree in forest.estimators_:
        leaves = tree.tree_.children_left == -1
        assert tree.tree_.n_node_samples[leaves].min() >= 100
