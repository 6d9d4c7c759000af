"""Training: purged walk-forward scores, the final fit, and what the model would have earned on the test part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from models import linear, metrics
from models.gates.sufficiency import check_trainable
from models.linear import LINEAR_MODELS, LinearSpec
from models.results import Evaluation
from pipelines.dataset import Dataset
from pipelines.errors import DataRefusedError
from pipelines.performance import Performance, measure
from pipelines.settings import Policy, Settings
from pipelines.splits import PurgedWalkForward, TemporalSplit, embargo_ns, temporal_split

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Progress = Callable[[str, int, int], None]
"""Called with (what was done, steps done, steps in all)."""

QUANTILES = 101
"""Quantiles of the training scores that travel with a model: every percent."""


@dataclass(frozen=True)
class TrainedModel:
    """A fitted pipeline and how it scored."""

    evaluation: Evaluation
    pipeline: Pipeline


@dataclass(frozen=True)
class _Task:
    """One model on one dataset and split; the pieces that every step needs."""

    spec: LinearSpec
    dataset: Dataset
    split: TemporalSplit
    settings: Settings

    @property
    def outcome(self) -> Floats:
        return self.dataset.target(self.spec.judged_on)

    def fit(self, rows: Rows) -> Pipeline:
        label = self.dataset.target(self.spec.target)[rows]
        if self.spec.kind == "classification" and np.ptp(label) == 0.0:
            raise DataRefusedError(
                f"all {len(rows)} training trades of a fold have {self.spec.target} = {label[0]:g}",
                limit="both classes in every fold",
                remedy="collect more trades or lower splits.folds",
            )
        return linear.build(self.spec.kind, self.settings.linear).fit(self.dataset.features[rows], label)

    def predict(self, pipeline: Pipeline, rows: Rows) -> Floats:
        return linear.predict(pipeline, self.spec.kind, self.dataset.features[rows])

    def score(self, rows: Rows, predictions: Floats) -> float:
        return metrics.score(self.spec.kind, self.outcome[rows], predictions)


def train(dataset: Dataset, settings: Settings, *, progress: Progress | None = None) -> tuple[TrainedModel, ...]:
    """Train the three linear models on one dataset.

    Cross-validation runs over everything before the test part; the final pipeline is fitted on
    the train part alone. The test part is scored once, at the end.

    Parameters
    ----------
    dataset
        Sorted by decision time.
    settings
        All settings.
    progress
        Told after each step.

    Returns
    -------
    tuple of TrainedModel
        In the order of `LINEAR_MODELS`. The same dataset and settings give the same models.

    Raises
    ------
    DataRefusedError
        Fewer trades than `gates.min_trades`, a fold without training rows or with one class only.
    """
    check_trainable(len(dataset), settings.gates)
    split = temporal_split(dataset.start, dataset.end, settings.splits)
    trained = []
    # On one thread the sums have one order, so the bits do not depend on the number of cores; it is faster, too.
    with threadpool_limits(limits=1):
        for number, spec in enumerate(LINEAR_MODELS):
            trained.append(_train_one(_Task(spec, dataset, split, settings)))
            if progress is not None:
                progress(spec.target, number + 1, len(LINEAR_MODELS))
    return tuple(trained)


def policy_multiplier(scores: Floats, train_quantiles: Floats, policy: Policy) -> Floats:
    """Turn scores into contracts per baseline contract; shape (n,).

    A trade is skipped (0) when its score lies below the `neutral` quantile of the training
    scores, and taken with `max_multiplier` otherwise. A model that gives every trade the same
    score therefore changes nothing.

    Parameters
    ----------
    scores
        Shape (n,).
    train_quantiles
        Evenly spaced quantiles of the training scores, from the smallest to the largest.
    policy
        Section `policy` of the settings.
    """
    shares = np.linspace(0.0, 1.0, len(train_quantiles))
    threshold = np.interp(policy.neutral, shares, train_quantiles)
    return np.where(scores >= threshold, policy.max_multiplier, 0.0)


def _train_one(task: _Task) -> TrainedModel:
    split, dataset, spec = task.split, task.dataset, task.spec
    folds = _cross_validate(task)
    pipeline = task.fit(split.train)
    train_predictions = task.predict(pipeline, split.train)
    test_predictions = task.predict(pipeline, split.test)
    quantiles = np.quantile(train_predictions, np.linspace(0.0, 1.0, QUANTILES))
    multipliers = policy_multiplier(test_predictions, quantiles, task.settings.policy)
    net_pnl = dataset.target("net_pnl")[split.test]
    evaluation = Evaluation(
        target=spec.target,
        family="linear",
        kind=spec.kind,
        judged_on=spec.judged_on,
        fold_scores=folds.scores,
        fold_train_scores=folds.train_scores,
        train_score=task.score(split.train, train_predictions),
        validation_score=task.score(split.validation, task.predict(pipeline, split.validation)) if len(split.validation) else metrics.NAN,
        test_score=task.score(split.test, test_predictions),
        metrics=_metrics(task, test_predictions, multipliers > 0.0),
        baselines=_baselines(task),
        coefficients=linear.coefficients(pipeline),
        oof_rows=folds.rows,
        oof_folds=folds.numbers,
        oof_predictions=folds.predictions,
        train_rows=split.train,
        test_rows=split.test,
        test_predictions=test_predictions,
        train_quantiles=quantiles,
        rows={"all": len(dataset), "train": len(split.train), "validation": len(split.validation), "test": len(split.test)},
        test_net_pnl=net_pnl,
        test_multipliers=multipliers,
        baseline_performance=_performance(task, net_pnl, np.ones(len(net_pnl), dtype=bool)),
        policy_performance=_performance(task, net_pnl * multipliers, multipliers > 0.0),
    )
    return TrainedModel(evaluation, pipeline)


@dataclass(frozen=True)
class _Folds:
    scores: tuple[float, ...]
    train_scores: tuple[float, ...]
    rows: Rows
    numbers: Rows
    predictions: Floats


def _cross_validate(task: _Task) -> _Folds:
    rows = task.split.development
    splits = task.settings.splits
    splitter = PurgedWalkForward(splits.folds, task.dataset.start[rows], task.dataset.end[rows], embargo=embargo_ns(splits))
    scores, train_scores, tested, numbers, predictions = [], [], [], [], []
    for number, (train, test) in enumerate(splitter.split(rows)):
        pipeline = task.fit(rows[train])
        predicted = task.predict(pipeline, rows[test])
        scores.append(task.score(rows[test], predicted))
        train_scores.append(task.score(rows[train], task.predict(pipeline, rows[train])))
        tested.append(rows[test])
        numbers.append(np.full(len(test), number))
        predictions.append(predicted)
    return _Folds(tuple(scores), tuple(train_scores), np.concatenate(tested), np.concatenate(numbers), np.concatenate(predictions))


def _metrics(task: _Task, predictions: Floats, taken: NDArray[np.bool_]) -> dict[str, float]:
    outcome = task.outcome[task.split.test]
    if task.spec.kind == "classification":
        return metrics.classification(outcome, predictions, taken)
    return metrics.regression(outcome, predictions, task.dataset.target(task.spec.target)[task.split.test])


def _baselines(task: _Task) -> dict[str, float]:
    """What one gets on the test part without any model (DOMAIN E.3)."""
    rows = task.split.test
    outcome = task.outcome[rows]
    alone = task.score(rows, task.dataset.confidence[rows])
    always = float(task.dataset.target("net_pnl")[rows].mean())
    common = {"confidence_score": alone, "always_take_expectancy": always}
    if task.spec.kind == "regression":
        target = task.dataset.target(task.spec.target)
        guess = float(target[task.split.train].mean())
        return {**common, "mean_guess_rmse": float(np.sqrt(np.mean((target[rows] - guess) ** 2)))}
    positive = float(outcome.mean())
    guess = float(task.outcome[task.split.train].mean())
    majority = positive if guess >= 0.5 else 1.0 - positive
    return {**common, "majority_accuracy": majority, "positive_share": positive, "base_rate_brier": float(np.mean((outcome - guess) ** 2))}


def _performance(task: _Task, net_pnl: Floats, taken: NDArray[np.bool_]) -> Performance:
    rows = task.split.test
    span = float(task.dataset.end[rows].max() - task.dataset.start[rows].min()) / 1e9
    return measure(net_pnl, taken, span, task.settings.performance)
