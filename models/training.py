"""Training one family: purged walk-forward scores, the final fit, and what the model would have earned on the test part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped,unused-ignore]

from models import linear, metrics
from models.calibration import Isotonic, Sigmoid, raw_scores
from models.ensemble import MEMBERS, EnsembleFilter
from models.families import FAMILIES, FamilySpec, ModelSpec
from models.ladder import check_trainable
from models.results import Evaluation
from pipelines.dataset import Dataset
from pipelines.errors import AmiralError, DataRefusedError
from pipelines.performance import Performance, measure
from pipelines.settings import Family, Policy, Settings
from pipelines.splits import PurgedWalkForward, TemporalSplit, embargo_ns, temporal_split
from pipelines.weights import sample_weights

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Progress = Callable[[str, int, int], None]
"""Called with (what was done, steps done, steps in all)."""

Result = TypeVar("Result")

QUANTILES = 101
"""Quantiles of the training scores that travel with a model: every percent."""


@dataclass(frozen=True)
class TrainedModel:
    """A fitted estimator and how it scored."""

    evaluation: Evaluation
    estimator: Any


@dataclass(frozen=True)
class Failure:
    """A model that could not be trained, and why."""

    target: str
    reason: str


@dataclass(frozen=True)
class FamilyTraining:
    """What came out of training one family; a model that fails does not stop the others."""

    family: Family
    models: tuple[TrainedModel, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class _Fit:
    """One fit with the predictions that the evaluation needs; `number` is the fold, None for the final fit, which keeps its estimator."""

    number: int | None
    estimator: Any
    rows: Rows
    train_predictions: Floats
    tested: Rows
    predictions: Floats


@dataclass(frozen=True)
class _Task:
    """One model on one dataset and split; the pieces that every step needs."""

    family: FamilySpec
    spec: ModelSpec
    dataset: Dataset
    split: TemporalSplit
    settings: Settings
    tuned: int
    """Parameters that a search has chosen."""

    @cached_property
    def inputs(self) -> Floats:
        return self.dataset.matrix(self.family.windowed)

    @cached_property
    def label(self) -> Floats:
        return self.dataset.target(self.spec.label)

    @cached_property
    def outcome(self) -> Floats:
        return self.dataset.target(self.spec.judged_on)

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        return np.isfinite(self.label) & np.isfinite(self.outcome)

    def of(self, rows: Rows) -> Rows:
        """Those of the rows whose label is known."""
        return rows[self.known[rows]]

    def jobs(self) -> Iterator[tuple[int | None, Rows, Rows]]:
        """Number of the fold, rows to fit on, rows to score; the final fit (None) comes last."""
        rows = self.of(self.split.development)
        splits, dataset = self.settings.splits, self.dataset
        folds = PurgedWalkForward(splits.folds, dataset.start[rows], dataset.end[rows], embargo=embargo_ns(splits))
        for number, (train, test) in enumerate(folds.split(rows)):
            yield number, rows[train], rows[test]
        yield None, self.of(self.split.train), np.concatenate([self.of(self.split.validation), self.of(self.split.test)])

    def run(self, job: tuple[int | None, Rows, Rows]) -> _Fit:
        number, rows, tested = job
        estimator = self.fit(rows)
        both = raw_scores(estimator, self.inputs[np.concatenate([rows, tested])])
        if not np.isfinite(both).all():
            raise DataRefusedError(
                f"{int((~np.isfinite(both)).sum())} of {len(both)} predictions of {self.spec.target} are not finite",
                limit="finite predictions",
                remedy="look at the features for extreme values, or regularise the model more",
            )
        return _Fit(number, estimator if number is None else None, rows, both[: len(rows)], tested, both[len(rows) :])

    def fit(self, rows: Rows) -> Any:
        label = self.label[rows]
        if self.spec.kind == "classification" and np.ptp(label) == 0.0:
            raise DataRefusedError(
                f"all {len(rows)} training trades of a fold have {self.spec.label} = {label[0]:g}",
                limit="both classes in every fold",
                remedy="collect more trades or lower splits.folds",
            )
        start, end = self.dataset.start[rows], self.dataset.end[rows]
        weight = sample_weights(start, end, self.settings.weights)
        return self.family.build(self.spec, self.settings).fit(self.inputs[rows], label, sample_weight=weight, start=start, end=end)

    def score(self, rows: Rows, predictions: Floats) -> float:
        return metrics.score(self.spec.kind, self.outcome[rows], predictions) if len(rows) else metrics.NAN


def train_family(
    dataset: Dataset,
    family: Family,
    settings: Settings,
    *,
    tuned: Mapping[str, Mapping[Family, Mapping[str, Any]]] | None = None,
    targets: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> FamilyTraining:
    """Train every model of one family on one dataset.

    Cross-validation runs over everything before the test part; the final estimator is fitted on
    the train part alone. The test part is scored once, at the end. The fits run side by side on
    `train.workers` threads, each of them single-threaded, so the result does not depend on how many.

    Parameters
    ----------
    dataset
        Sorted by decision time.
    family
        Its models are those of `models.families.FAMILIES`.
    settings
        All settings.
    tuned
        Target to family to parameters that replace those of section `train.<family>`; an ensemble takes those
        of its members.
    targets
        Names of the models to train; all of the family by default.
    progress
        Told after each fit.

    Returns
    -------
    FamilyTraining
        Models in the family's order. The same dataset and settings give the same models.

    Raises
    ------
    DataRefusedError
        Fewer trades than the ladder asks for, or too few for a split.
    """
    check_trainable(len(dataset), family, settings.ladder)
    split = temporal_split(dataset.start, dataset.end, settings.splits)
    spec = FAMILIES[family]
    chosen = [model for model in spec.models if targets is None or model.target in targets]
    searched = [(tuned or {}).get(model.target, {}) for model in chosen]
    tasks = [
        _Task(spec, model, dataset, split, _with_all(settings, found), sum(map(len, found.values())))
        for model, found in zip(chosen, searched, strict=True)
    ]
    dataset.matrix(spec.windowed)  # computed once, before the threads ask for it
    models, failures = [], []
    fits = _run_all(tasks, settings.train.workers, progress)
    for task, found in zip(tasks, fits, strict=True):
        try:
            if isinstance(found, Exception):
                raise found
            models.append(TrainedModel(_evaluate(task, found), found[-1].estimator))
        except AmiralError as error:
            failures.append(Failure(task.spec.target, str(error)))
        except Exception as error:  # noqa: BLE001 - whatever breaks one model must not cost the others; it is reported, and the run fails
            failures.append(Failure(task.spec.target, f"{type(error).__name__}: {error}"))
    return FamilyTraining(family, tuple(models), tuple(failures))


def _with_all(settings: Settings, parameters: Mapping[Family, Mapping[str, Any]]) -> Settings:
    for family, changed in parameters.items():
        settings = with_parameters(settings, family, changed)
    return settings


def with_parameters(settings: Settings, family: Family, parameters: Mapping[str, Any] | None) -> Settings:
    """Settings whose section `train.<family>` has these parameters in place of its own.

    Raises
    ------
    pydantic.ValidationError
        A parameter is unknown or out of range.
    """
    if not parameters:
        return settings
    section = getattr(settings.train, family)
    changed = type(section).model_validate(section.model_dump() | dict(parameters))
    return settings.model_copy(update={"train": settings.train.model_copy(update={family: changed})})


def score_quantiles(scores: Floats) -> Floats:
    """Quantiles of training scores, every percent from the smallest to the largest; shape (101,)."""
    return np.quantile(scores, np.linspace(0.0, 1.0, QUANTILES))


def on_one_thread(controller: ThreadpoolController, work: Callable[..., Result], *arguments: object) -> Result:
    """Do a piece of work whose OpenMP loops stay on the calling thread.

    OpenMP's limit is one of the calling thread, so every worker sets its own; that of BLAS is one of the
    process, and whoever starts the workers sets it.
    """
    with controller.limit(limits=1, user_api="openmp"):
        return work(*arguments)


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


def _run_all(tasks: Sequence[_Task], workers: int, progress: Progress | None) -> list[list[_Fit] | Exception]:
    """Fit everything; a task's result is its fits in order (the final one last), or what stopped it."""
    results: list[list[_Fit] | Exception] = []
    controller = ThreadpoolController()
    # On one thread the sums have one order, so the bits do not depend on the number of cores; it is faster, too.
    with controller.limit(limits=1, user_api="blas"), ThreadPoolExecutor(workers, thread_name_prefix="fit") as pool:
        pending: dict[Future[_Fit], str] = {}
        futures: list[list[Future[_Fit]] | Exception] = []
        for task in tasks:
            try:
                jobs = list(task.jobs())
            except AmiralError as error:
                futures.append(error)
                continue
            submitted = [pool.submit(on_one_thread, controller, task.run, job) for job in jobs]
            futures.append(submitted)
            for (number, *_), future in zip(jobs, submitted, strict=True):
                pending[future] = f"{task.spec.target}, " + ("final fit" if number is None else f"fold {number + 1}")
        try:
            _watch(pending, progress)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for item in futures:
        if isinstance(item, Exception):
            results.append(item)
            continue
        errors = [error for error in (future.exception() for future in item) if error is not None]
        interrupts = [error for error in errors if not isinstance(error, Exception)]
        if interrupts:
            raise interrupts[0]
        results.append(errors[0] if errors else [future.result() for future in item])  # type: ignore[arg-type]
    return results


def _watch(pending: Mapping[Future[_Fit], str], progress: Progress | None) -> None:
    left = set(pending)
    while left:
        done, left = wait(left, return_when=FIRST_COMPLETED)
        if progress is not None:
            for number, future in enumerate(done):
                progress(pending[future], len(pending) - len(left) - len(done) + number + 1, len(pending))


def _evaluate(task: _Task, fits: Sequence[_Fit]) -> Evaluation:
    *folds, final = fits
    split, dataset, spec = task.split, task.dataset, task.spec
    validation = task.of(split.validation)
    test = final.tested[len(validation) :]
    validation_predictions, predictions = final.predictions[: len(validation)], final.predictions[len(validation) :]
    quantiles = score_quantiles(final.train_predictions)
    multipliers = policy_multiplier(predictions, quantiles, task.settings.policy)
    net_pnl = dataset.target("net_pnl")[test]
    return Evaluation(
        target=spec.target,
        family=task.family.name,
        kind=spec.kind,
        label=spec.label,
        judged_on=spec.judged_on,
        parameters=_parameters(task),
        # The search has seen most of the trades that the folds test on: a reviewer has to know.
        details=_details(final.estimator) | ({"tuned_parameters": float(task.tuned)} if task.tuned else {}),
        fold_scores=tuple(task.score(fold.tested, fold.predictions) for fold in folds),
        fold_train_scores=tuple(task.score(fold.rows, fold.train_predictions) for fold in folds),
        train_score=task.score(final.rows, final.train_predictions),
        validation_score=task.score(validation, validation_predictions),
        test_score=task.score(test, predictions),
        metrics=_metrics(task, test, predictions, multipliers > 0.0) | _combinations(task, final.estimator, test),
        calibration=_calibration(task, final.estimator, test, predictions),
        baselines=_baselines(task, test),
        coefficients=linear.coefficients(final.estimator.estimator_) if task.family.name == "linear" else {},
        oof_rows=np.concatenate([fold.tested for fold in folds]),
        oof_folds=np.concatenate([np.full(len(fold.tested), fold.number) for fold in folds]),
        oof_predictions=np.concatenate([fold.predictions for fold in folds]),
        oof_multipliers=np.concatenate(
            [policy_multiplier(fold.predictions, score_quantiles(fold.train_predictions), task.settings.policy) for fold in folds]
        ),
        train_rows=final.rows,
        test_rows=test,
        test_predictions=predictions,
        train_quantiles=quantiles,
        rows={"all": len(dataset), "train": len(final.rows), "validation": len(validation), "test": len(test)},
        test_net_pnl=net_pnl,
        test_multipliers=multipliers,
        baseline_performance=_performance(task, test, net_pnl, np.ones(len(net_pnl), dtype=bool)),
        policy_performance=_performance(task, test, net_pnl * multipliers, multipliers > 0.0),
    )


def _parameters(task: _Task) -> dict[str, Any]:
    """What the model was fitted with; an ensemble has the settings of its members as well, "member.key"."""
    train = task.settings.train
    own = getattr(train, task.family.name).model_dump(mode="json") | {"clip_quantile": train.clip_quantile}
    members = MEMBERS if task.family.name == "ensemble" else ()
    return own | {f"{name}.{key}": value for name in members for key, value in getattr(train, name).model_dump(mode="json").items()}


def _metrics(task: _Task, rows: Rows, predictions: Floats, taken: NDArray[np.bool_]) -> dict[str, float]:
    outcome = task.outcome[rows]
    if task.spec.kind == "classification":
        return metrics.classification(outcome, predictions, taken)
    return metrics.regression(outcome, predictions, task.label[rows])


def _combinations(task: _Task, estimator: Any, rows: Rows) -> dict[str, float]:
    """What each way to combine the members of an ensemble is worth, and how often they agree."""
    if not isinstance(estimator, EnsembleFilter):
        return {}
    combined = estimator.combine(task.inputs[rows])
    outcome = task.outcome[rows]
    scores = {f"{name}_roc_auc": metrics.auc(outcome, combined.score(name)) for name in ("voting", "weighted", "stacking")}
    chosen = combined.score(estimator.settings.combination)
    approved = float((chosen >= estimator.settings.min_confidence).mean())
    return {**scores, "agreement": float(combined.agreement.mean()), "approved_share": approved}


def _calibration(task: _Task, estimator: Any, rows: Rows, predictions: Floats) -> dict[str, float]:
    if not task.spec.probability:
        return {}
    values = task.inputs[rows]
    # The uncalibrated counterpart of a stacker is the plain mean of its members' own scores.
    raw = (
        np.mean([raw_scores(member, values) for member in estimator.members_.values()], axis=0)
        if isinstance(estimator, EnsembleFilter)
        else estimator.raw(values)
    )
    return metrics.calibration(task.label[rows], np.clip(raw, 0.0, 1.0), predictions, task.settings.report.reliability_bins)


def _details(estimator: Any) -> dict[str, float]:
    """Numbers of the fitted model that a reviewer would ask for."""
    if isinstance(estimator, EnsembleFilter):
        slopes = dict(zip(estimator.members_, estimator.stacker_.slopes, strict=True))
        return {f"stacking_slope_{name}": slope for name, slope in slopes.items()}
    details: dict[str, float] = {}
    calibrator = getattr(estimator, "calibrator_", None)
    if isinstance(calibrator, Sigmoid):
        details |= {"calibration_slope": calibrator.slopes[0], "calibration_intercept": calibrator.intercept}
    elif isinstance(calibrator, Isotonic):
        details["calibration_steps"] = float(len(set(calibrator.probabilities)))
    inner = getattr(estimator, "estimator_", estimator)
    if hasattr(inner, "n_epochs_"):
        details["epochs"] = float(inner.n_epochs_)
    return details


def _baselines(task: _Task, rows: Rows) -> dict[str, float]:
    """What one gets on the test part without any model (DOMAIN E.3)."""
    outcome = task.outcome[rows]
    alone = task.score(rows, task.dataset.confidence[rows])
    always = float(task.dataset.target("net_pnl")[rows].mean())
    common = {"confidence_score": alone, "always_take_expectancy": always}
    train = task.of(task.split.train)
    if task.spec.kind == "regression":
        guess = float(task.label[train].mean())
        return {**common, "mean_guess_rmse": float(np.sqrt(np.mean((task.label[rows] - guess) ** 2)))}
    positive = float(outcome.mean())
    guess = float(task.outcome[train].mean())
    majority = positive if guess >= 0.5 else 1.0 - positive
    return {**common, "majority_accuracy": majority, "positive_share": positive, "base_rate_brier": float(np.mean((outcome - guess) ** 2))}


def _performance(task: _Task, rows: Rows, net_pnl: Floats, taken: NDArray[np.bool_]) -> Performance:
    span = float(task.dataset.end[rows].max() - task.dataset.start[rows].min()) / 1e9
    return measure(net_pnl, taken, span, task.settings.performance)
