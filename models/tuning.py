"""Tuning: a search for better parameters that looks at the train part only, and keeps every trial.

Each trial is a set of parameters, scored by a purged and embargoed walk-forward inside the train part
of `temporal_split`. Validation and test part are never looked at, so both stay what they are for. The
objective is the mean score of the folds, less a penalty for a gap between training and fold score:
parameters that learn by heart are not worth a lucky fold.

The search is a tree-structured Parzen estimator (Bergstra et al. 2011; Optuna, Akiba et al. 2019) with
a median pruner. The first trial is always the default of `params.yaml`, so the best one is never worse.
What a search costs in credibility depends on how much was tried. Every trial is therefore kept with its
per-trade returns out of fold, for the probability of backtest overfitting (Bailey et al. 2017) and the
deflated Sharpe ratio (Bailey and Lopez de Prado 2014).

Files, in the folder of one model:

    best.json                         best parameters of the newest study
    <study>/study.journal             Optuna's journal: every trial, also the unfinished ones
    <study>/trials.json               the trials that count, for people and for later stages
    <study>/returns/<trial>.npy       returns in R of one trial, NaN where a fold was not reached
    <study>/rows.npy                  dataset row, decision time and fold of each of these returns

A study is named by what it depends on (dataset, parameters searched, settings), so another dataset
begins another study beside the old one. A stopped study goes on where it stopped and ends with the same
trials as one that was never stopped: the draws of a trial depend on the seed, its number and the
trials before it only.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped,unused-ignore]

from models import metrics
from models.calibration import raw_scores
from models.families import FAMILIES, FamilySpec, ModelSpec
from models.gates.overfitting import AUC_POINTS
from models.ladder import check_trainable
from models.results import Kind
from models.training import Progress, on_one_thread, policy_multiplier, score_quantiles, with_parameters
from pipelines.dataset import Dataset
from pipelines.errors import DataRefusedError, InputError, StorageError
from pipelines.settings import Family, Settings, Tuning
from pipelines.splits import PurgedWalkForward, embargo_ns, temporal_split
from pipelines.storage import storage_errors, write_bytes, write_json
from pipelines.weights import sample_weights

if TYPE_CHECKING:
    import optuna

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
State = Literal["complete", "pruned", "failed"]

BEST_FILE = "best.json"
JOURNAL_FILE = "study.journal"
TRIALS_FILE = "trials.json"
ROWS_FILE = "rows.npy"
RETURNS_FOLDER = "returns"

SEARCH_VERSION = 1
"""Part of a study's name; raised when the same parameters would be scored differently."""

NO_SKILL: dict[Kind, float] = {"classification": 0.5, "regression": 0.0}
"""Score of a model that gives every trade the same value."""


@dataclass(frozen=True)
class Dimension:
    """Where one parameter is searched: bounds (both included), on a log scale or not, whole numbers or not."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def around(self, value: float) -> Dimension:
        """The same dimension, widened to hold a value; a log scale cannot hold 0 and becomes a plain one."""
        return replace(self, low=min(self.low, value), high=max(self.high, value), log=self.log and value > 0.0)


SPACES: dict[Family, Mapping[str, Dimension]] = {
    "linear": {
        "c": Dimension(1e-4, 10.0, log=True),
        "alpha": Dimension(0.1, 1e4, log=True),
    },
    # More trees never hurt a forest, they only cost time: nothing to search.
    "forest": {
        "max_depth": Dimension(2, 8, integer=True),
        "min_leaf_share": Dimension(0.005, 0.10, log=True),
        "max_features": Dimension(0.1, 1.0),
        "max_samples": Dimension(0.3, 1.0),
    },
    "xgboost": {
        "trees": Dimension(40, 300, log=True, integer=True),
        "max_depth": Dimension(1, 4, integer=True),
        "learning_rate": Dimension(0.01, 0.20, log=True),
        "subsample": Dimension(0.3, 1.0),
        "colsample": Dimension(0.2, 1.0),
        "min_child_weight": Dimension(1.0, 200.0, log=True),
        "reg_lambda": Dimension(0.1, 200.0, log=True),
    },
    "lstm": {
        "hidden": Dimension(4, 64, log=True, integer=True),
        "head": Dimension(4, 64, log=True, integer=True),
        "dropout": Dimension(0.0, 0.6),
        "learning_rate": Dimension(3e-4, 0.03, log=True),
        "weight_decay": Dimension(1e-4, 1.0, log=True),
    },
}
"""What is searched, by family; names are keys of `train.<family>`. The other keys stay as they are."""

_IDLE: frozenset[tuple[Kind, str]] = frozenset({("classification", "alpha"), ("regression", "c")})
"""Parameters that one kind of model does not have."""


@dataclass(frozen=True)
class Trial:
    """One set of parameters and how it scored.

    Attributes
    ----------
    number
        From 0, the default of `params.yaml`.
    parameters
        Keys of `train.<family>`.
    state
        complete; pruned: given up after some folds; failed: `error` says why.
    fold_scores, fold_train_scores
        Score of the folds that were reached, on their test and training rows, oldest first.
    gap
        Mean of training less test score, in points of ROC-AUC.
    value
        The objective over these folds; NaN without any. Values of trials that are not complete
        rest on other folds and cannot be compared with those that are.
    seconds
        Time that the fits took.
    error
        Empty unless failed.
    """

    number: int
    parameters: dict[str, float]
    state: State
    fold_scores: tuple[float, ...]
    fold_train_scores: tuple[float, ...]
    gap: float
    value: float
    seconds: float
    error: str


@dataclass(frozen=True)
class TuningResult:
    """Where a study stands.

    Attributes
    ----------
    family, target
        The model.
    folder
        Of the study.
    trials
        All that count, in order.
    finished
        Whether there are as many as `tuning.trials` asks for.
    """

    family: Family
    target: str
    folder: Path
    trials: tuple[Trial, ...]
    finished: bool

    @property
    def default(self) -> Trial | None:
        """The trial of `params.yaml`'s own parameters; None as long as it has not ended."""
        return self.trials[0] if self.trials else None

    @property
    def best(self) -> Trial | None:
        """The complete trial of the highest value, the earliest of equals; None as long as there is none."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        return max(complete, key=lambda trial: trial.value) if complete else None


@dataclass(frozen=True)
class TrialReturns:
    """What every trial of a study would have earned, trade by trade, out of fold.

    Attributes
    ----------
    numbers
        Of the m trials.
    states
        complete, pruned or failed; one per trial.
    rows
        Shape (n,): positions in the dataset that the study ran on, ascending.
    times
        Shape (n,): decision times, ns since 1970 UTC.
    folds
        Shape (n,): number of the fold that scored the row.
    returns
        Shape (n, m): realised R times the contracts that the policy gives; NaN in folds that the
        trial did not reach.
    """

    numbers: tuple[int, ...]
    states: tuple[State, ...]
    rows: Rows
    times: NDArray[np.int64]
    folds: NDArray[np.int64]
    returns: Floats


def tune(
    dataset: Dataset,
    family: Family,
    target: str,
    settings: Settings,
    folder: Path,
    *,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TuningResult:
    """Search parameters of one model, or go on with a search that was stopped.

    Parameters
    ----------
    dataset
        Sorted by decision time. Only the rows of its train part are used.
    family, target
        The model, as in `models.families.FAMILIES`.
    settings
        All settings. Section `tuning` says how long to search: until there are `trials` trials or
        this call has taken `time_budget_s`. The budget is looked at between folds; a trial that it
        breaks off is taken up again, finished folds included.
    folder
        Of this model (data/tuning/<family>/<target>).
    progress
        Told after each fold, in folds.
    clock
        Seconds, never falling.

    Raises
    ------
    InputError
        The family is not tuned, the target is not one of the family's, or the study's file is damaged.
    DataRefusedError
        Too few trades for the family or its folds, or a fold whose labels do not vary.
    StorageError
        The folder cannot be written, or another process tunes the same model.

    Whatever stops the default parameters is raised as it is: its cause is not in the search.
    """
    begin = clock()
    search = _prepare(dataset, family, target, settings)
    home = folder / search.name[:12]

    def out_of_time() -> bool:
        return clock() - begin >= settings.tuning.time_budget_s

    with storage_errors(home), _exclusive(home):
        run = _Run(search, folder, home, _open(home / JOURNAL_FILE, search), out_of_time, progress)
        run.settle()
        write_bytes(home / ROWS_FILE, _npy(search.layout))
        trials = run.publish()
        # One thread per fit: the sums have one order, so the bits do not depend on the number of cores.
        with (
            ThreadpoolController().limit(limits=1, user_api="blas"),
            ThreadPoolExecutor(settings.train.workers, thread_name_prefix="trial") as pool,
        ):
            while len(trials) < settings.tuning.trials and not out_of_time():
                run.trial(len(trials), pool)
                trials = run.publish()
    return run.result(trials)


def tuned_parameters(
    folder: Path, family: Family, targets: Sequence[str], *, before_ns: int, present: Mapping[str, Any], sources: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Read the best parameters of a family's models.

    Parameters
    ----------
    folder
        Of the family (data/tuning/<family>), with one folder a target.
    family
        The family.
    targets
        Names of its models.
    before_ns
        Start of the present test part less the embargo, ns since 1970 UTC.
    present
        The present section `train.<family>`. When a searched parameter was changed there since the search,
        none is taken: whoever sets one by hand means it, and no trial has scored the mixture.
    sources
        Data sources of the present dataset.

    Returns
    -------
    dict
        Target to parameters; targets that were never tuned are absent.

    Raises
    ------
    InputError
        A file is damaged, its parameters were chosen by trades that closed at or after `before_ns`
        (they have seen the test part), or by trades of other sources (simulated for replayed ones).
    """
    found = {}
    for target in targets:
        path = folder / target / BEST_FILE
        best = _read_best(path, family, target)
        if best is None:
            continue
        if best["last_exit_ns"] >= before_ns:
            raise InputError(
                f"the tuned parameters of {family}/{target} were chosen by trades up to {_moment(best['last_exit_ns'])}",
                limit=f"trades that closed before {_moment(before_ns)}, the start of the test part less the embargo",
                remedy=f"run amiral tune on the present dataset, or set tuning.use=false to train with section train.{family}",
            )
        if best["sources"] != sorted(sources):
            raise InputError(
                f"the tuned parameters of {family}/{target} were chosen by {', '.join(best['sources'])} trades",
                limit=f"trades of the present sources: {', '.join(sorted(sources))}",
                remedy=f"run amiral tune on the present dataset, set tuning.use=false, or move {path} away",
            )
        if all(present[name] == best["defaults"][name] for name in best["parameters"]):
            found[target] = dict(best["parameters"])
    return found


def trial_returns(folder: Path) -> TrialReturns:
    """Read the returns of every trial of the study that `best.json` names.

    Parameters
    ----------
    folder
        Of one model (data/tuning/<family>/<target>).

    Raises
    ------
    InputError
        A file is missing or damaged.
    """
    remedy = "run amiral tune again; where that does not help, move the study's folder away first"
    try:
        home = folder / str(json.loads((folder / BEST_FILE).read_text(encoding="utf-8"))["study"])
        listed = json.loads((home / TRIALS_FILE).read_text(encoding="utf-8"))["trials"]
        rows, times, folds = np.load(home / ROWS_FILE, allow_pickle=False)
        numbers = tuple(int(trial["number"]) for trial in listed)
        columns = [np.load(_returns_path(home, number), allow_pickle=False) for number in numbers]
        returns = np.column_stack(columns) if columns else np.empty((len(rows), 0))
        if len(returns) != len(rows):
            raise ValueError(f"{len(returns)} returns a trial for {len(rows)} rows")
        states = tuple(trial["state"] for trial in listed)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename} does not exist", remedy=remedy) from None
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise InputError(f"the trials in {folder} cannot be read: {error}", remedy=remedy) from None
    return TrialReturns(numbers, states, rows, times, folds, returns)


def objective(kind: Kind, fold_scores: Sequence[float], fold_train_scores: Sequence[float], settings: Tuning) -> tuple[float, float]:
    """Give what a trial is worth, and the gap between its training and fold scores in points of ROC-AUC.

    Examples
    --------
    A gap of 0.25, 0.20 above what is free, costs half of the surplus:

    >>> from pipelines.settings import load_settings
    >>> value, gap = objective("classification", [0.55, 0.60], [0.80, 0.85], load_settings().tuning)
    >>> round(value, 6), round(gap, 6)
    (0.475, 0.25)
    """
    gap = float(np.mean(np.subtract(fold_train_scores, fold_scores))) * AUC_POINTS[kind]
    return float(np.mean(fold_scores)) - settings.gap_penalty * max(0.0, gap - settings.free_gap), gap


@dataclass(frozen=True)
class _Fold:
    """One fold by positions in the rows of the search, and where its test rows lie in the returns of a trial."""

    number: int
    train: Rows
    test: Rows
    place: slice


@dataclass(frozen=True)
class _Scored:
    """What came out of one fold."""

    score: float
    train_score: float
    seconds: float
    returns: Floats


@dataclass(frozen=True)
class _Search:
    """One model on the train part of one dataset.

    It holds the usable rows of the train part and no others, so no trial can see more.
    `rows` are their positions in the dataset, everything else is indexed by position in `rows`.
    """

    family: FamilySpec
    spec: ModelSpec
    settings: Settings
    space: Mapping[str, Dimension]
    dataset_hash: str
    sources: tuple[str, ...]
    rows: Rows
    inputs: Floats
    label: Floats
    outcome: Floats
    realized_r: Floats
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    folds: tuple[_Fold, ...]

    @cached_property
    def default(self) -> dict[str, float]:
        """The parameters of `params.yaml`."""
        section = getattr(self.settings.train, self.family.name)
        return {name: getattr(section, name) for name in self.space}

    @cached_property
    def settings_hash(self) -> str:
        """SHA-256 of the settings that a trial's score or returns depend on."""
        settings = self.settings
        content = {
            "seed": settings.seed,
            # How many folds training uses does not matter here; how many trials there shall be must not.
            "splits": settings.splits.model_dump(mode="json", exclude={"folds"}),
            "tuning": settings.tuning.model_dump(mode="json", exclude={"trials", "time_budget_s"}),
            "weights": settings.weights.model_dump(mode="json"),
            "policy": settings.policy.model_dump(mode="json"),
            "clip_quantile": settings.train.clip_quantile,
            self.family.name: getattr(settings.train, self.family.name).model_dump(mode="json"),
        }
        return _digest(content)

    @cached_property
    def name(self) -> str:
        """Of the study: 64 hex digits."""
        return _digest(
            {
                "version": SEARCH_VERSION,
                "dataset": self.dataset_hash,
                "family": self.family.name,
                "target": self.spec.target,
                "space": {name: asdict(dimension) for name, dimension in self.space.items()},
                "settings": self.settings_hash,
            }
        )

    @cached_property
    def layout(self) -> NDArray[np.int64]:
        """Shape (3, n): dataset row, decision time and fold of each out-of-fold row."""
        tested = np.concatenate([fold.test for fold in self.folds])
        numbers = np.concatenate([np.full(len(fold.test), fold.number) for fold in self.folds])
        return np.stack([self.rows[tested], self.start[tested], numbers])

    @property
    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """The space in Optuna's words."""
        from optuna.distributions import FloatDistribution, IntDistribution

        return {
            name: IntDistribution(int(item.low), int(item.high), log=item.log)
            if item.integer
            else FloatDistribution(item.low, item.high, log=item.log)
            for name, item in self.space.items()
        }

    def score(self, fold: _Fold, parameters: Mapping[str, float]) -> _Scored:
        """Fit one fold with these parameters, as training does, and score it."""
        begin = time.perf_counter()
        spec = self.spec
        settings = with_parameters(self.settings, self.family.name, parameters)
        start, end = self.start[fold.train], self.end[fold.train]
        weight = sample_weights(start, end, settings.weights)
        # Without calibration, which would cost three more fits a fold: a monotone map changes no rank, the
        # policy goes by ranks, and what it does to the one correlation (confidence_score) is about the same in
        # every trial. A wrapper that has no calibration to fit is the raw estimator.
        estimator = self.family.build(replace(spec, probability=False), settings)
        estimator.fit(self.inputs[fold.train], self.label[fold.train], sample_weight=weight, start=start, end=end)
        trained, tested = (raw_scores(estimator, self.inputs[rows]) for rows in (fold.train, fold.test))
        if not (np.isfinite(trained).all() and np.isfinite(tested).all()):
            raise DataRefusedError(
                f"predictions of {self.family.name}/{spec.target} are not finite",
                limit="finite predictions",
                remedy="look at the features for extreme values",
            )
        quantiles = score_quantiles(trained)
        returns = self.realized_r[fold.test] * policy_multiplier(tested, quantiles, settings.policy)
        scores = [_score(spec.kind, self.outcome[rows], values) for rows, values in ((fold.test, tested), (fold.train, trained))]
        return _Scored(scores[0], scores[1], time.perf_counter() - begin, returns)


def _prepare(dataset: Dataset, family: Family, target: str, settings: Settings) -> _Search:
    if family not in SPACES:
        raise InputError(
            f"the family {family} is not tuned",
            limit=f"one of {', '.join(SPACES)}",
            remedy="tune its members: it combines their scores and has no parameters to search of its own",
        )
    known = [model.target for model in FAMILIES[family].models]
    if target not in known:
        raise InputError(f"the family {family} has no model of {target!r}", limit=f"one of {', '.join(known)}", remedy="name one of these")
    check_trainable(len(dataset), family, settings.ladder)
    spec = FAMILIES[family].model(target)
    label, outcome = dataset.target(spec.label), dataset.target(spec.judged_on)
    rows = temporal_split(dataset.start, dataset.end, settings.splits).train
    rows = rows[np.isfinite(label[rows]) & np.isfinite(outcome[rows])]
    section = getattr(settings.train, family)
    search = _Search(
        family=FAMILIES[family],
        spec=spec,
        settings=settings,
        space={name: item.around(getattr(section, name)) for name, item in SPACES[family].items() if (spec.kind, name) not in _IDLE},
        dataset_hash=dataset.content_hash,
        sources=tuple(sorted(dataset.card["sources"])),
        rows=rows,
        inputs=dataset.matrix(FAMILIES[family].windowed)[rows],
        label=label[rows],
        outcome=outcome[rows],
        realized_r=dataset.target("realized_r")[rows],
        start=dataset.start[rows],
        end=dataset.end[rows],
        folds=tuple(_folds(dataset.start[rows], dataset.end[rows], settings)),
    )
    for fold in search.folds:
        parts = (("training", search.label[fold.train]), ("training", search.outcome[fold.train]), ("test", search.outcome[fold.test]))
        for part, values in parts:
            if np.ptp(values) == 0.0:
                raise DataRefusedError(
                    f"fold {fold.number + 1} of {len(search.folds)}: all {len(values)} {part} trades have the same {target}, {values[0]:g}",
                    limit="labels that vary in every fold",
                    remedy="collect more trades or lower tuning.folds",
                )
    return search


def _folds(start: NDArray[np.int64], end: NDArray[np.int64], settings: Settings) -> Iterator[_Fold]:
    first = 0
    splitter = PurgedWalkForward(settings.tuning.folds, start, end, embargo=embargo_ns(settings.splits))
    for number, (train, test) in enumerate(splitter.split(start)):
        yield _Fold(number, train, test, slice(first, first + len(test)))
        first += len(test)


@dataclass(frozen=True)
class _Run:
    """One call of `tune` on an open study.

    A trial of the study counts when it is complete, pruned, or failed with an error. The others were
    broken off, by the time budget, Ctrl-C or the end of the process; they are made again under the
    same number, with the same draws.
    """

    search: _Search
    folder: Path
    home: Path
    study: optuna.Study
    out_of_time: Callable[[], bool]
    progress: Progress | None

    def settle(self) -> None:
        """Close the trial that a process left open when it died."""
        from optuna.trial import TrialState

        trials = self.study.get_trials(deepcopy=False)
        deaths = [
            (trial.params, len(_folds_of(trial)))
            for trial in trials
            if trial.state == TrialState.FAIL and not trial.user_attrs.keys() & {"error", "stopped"}
        ]
        for trial in trials:
            if trial.state != TrialState.RUNNING:
                continue
            number = len(self._counted())
            # Parameters that end the process twice in one place (out of memory, say) would do so for ever.
            again = trial.params.keys() == self.search.space.keys() and (trial.params, len(_folds_of(trial))) in deaths
            if number and again:
                self.study.set_user_attr("given_up", [*self._given_up(), trial.number])
                if self._load_returns(number) is None:
                    self._save_returns(number, self._nothing())
            self.study.tell(trial.number, state=TrialState.FAIL)

    def trial(self, number: int, pool: ThreadPoolExecutor) -> None:
        """Make one trial, as far as the time allows."""
        from optuna.trial import TrialState

        search, study = self.search, self.study
        study.sampler = _sampler(search.settings, number)
        previous = study.get_trials(deepcopy=False)
        waiting = [trial for trial in previous if trial.state == TrialState.WAITING]
        if not number and not waiting:
            study.enqueue_trial(dict(search.default))
        trial = study.ask(search.distributions)
        done = self._taken_up(number, trial.params, [item for item in previous if item not in waiting])
        controller = ThreadpoolController()
        # All at once, so that the next fold is under way while this one is judged; taken in order, so that
        # the outcome does not depend on how many threads there are.
        left = [fold for fold in search.folds if fold.number not in done]
        futures = {fold.number: pool.submit(on_one_thread, controller, search.score, fold, trial.params) for fold in left}
        try:
            state = self._folds(trial, number, done, futures)
        except BaseException:
            # Where even this cannot be written, the next call finds the trial open and settles it.
            with contextlib.suppress(OSError):
                trial.set_user_attr("stopped", True)
                study.tell(trial, state=TrialState.FAIL)
            raise
        finally:
            for future in futures.values():
                future.cancel()
        value = self._score_of(study.get_trials(deepcopy=False)[trial.number])[0] if state == TrialState.COMPLETE else None
        study.tell(trial, value, state=state)

    def _folds(
        self, trial: optuna.Trial, number: int, done: Mapping[int, _Scored], futures: Mapping[int, Future[_Scored]]
    ) -> optuna.trial.TrialState:
        """Take the folds in order; how the trial ended is in its state and attributes."""
        from optuna.trial import TrialState

        search = self.search
        count = len(search.folds)
        returns = self._nothing()
        if not done:
            self._save_returns(number, returns)
        scored: list[_Scored] = []
        for fold in search.folds:
            new = fold.number not in done
            if new and isinstance(error := futures[fold.number].exception(), Exception) and number:
                trial.set_user_attr("error", str(error) or type(error).__name__)
                return TrialState.FAIL
            result = futures[fold.number].result() if new else done[fold.number]
            scored.append(result)
            returns[fold.place] = result.returns
            if new:  # the returns first: a fold whose scores are known has its returns on disk
                self._save_returns(number, returns)
            trial.set_user_attr(_fold_key(fold.number), [result.score, result.train_score, result.seconds])
            value, _ = objective(
                search.spec.kind, [item.score for item in scored], [item.train_score for item in scored], search.settings.tuning
            )
            trial.report(value, fold.number)
            if new and self.progress is not None:
                steps = number * count + len(scored)
                self.progress(f"trial {number + 1}, fold {len(scored)}", steps, search.settings.tuning.trials * count)
            if len(scored) == count:
                break
            if trial.should_prune():
                return TrialState.PRUNED
            if new and self.out_of_time():
                trial.set_user_attr("stopped", True)
                return TrialState.FAIL
        return TrialState.COMPLETE

    def publish(self) -> tuple[Trial, ...]:
        """Write what the study holds, for people and for later stages; Optuna's journal stays the source."""
        search = self.search
        trials = tuple(self._record(number, trial) for number, trial in enumerate(self._counted()))
        result = self.result(trials)
        common = {
            "family": search.family.name,
            "target": search.spec.target,
            "study": self.home.name,
            "dataset_hash": search.dataset_hash,
            "sources": list(search.sources),
            "settings_hash": search.settings_hash,
            "last_exit_ns": int(search.end.max()),
            "finished": result.finished,
        }
        space = {name: asdict(dimension) for name, dimension in search.space.items()}
        write_json(self.home / TRIALS_FILE, {**common, "space": space, "trials": [asdict(trial) for trial in trials]})
        best, default = result.best, result.default
        if best is not None and default is not None:
            found = {
                "parameters": best.parameters,
                "defaults": default.parameters,
                "trial": best.number,
                "value": best.value,
                "default_value": default.value,
                "trials": len(trials),
                "complete": sum(trial.state == "complete" for trial in trials),
            }
            write_json(self.folder / BEST_FILE, common | found)
        return trials

    def result(self, trials: tuple[Trial, ...]) -> TuningResult:
        """What `tune` returns."""
        search = self.search
        return TuningResult(search.family.name, search.spec.target, self.home, trials, len(trials) >= search.settings.tuning.trials)

    def _counted(self) -> list[optuna.trial.FrozenTrial]:
        from optuna.trial import TrialState

        given_up = self._given_up()
        return [
            trial
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
            or (trial.state == TrialState.FAIL and ("error" in trial.user_attrs or trial.number in given_up))
        ]

    def _given_up(self) -> list[int]:
        attributes = self.study.user_attrs
        return list(attributes["given_up"]) if "given_up" in attributes else []

    def _record(self, number: int, trial: optuna.trial.FrozenTrial) -> Trial:
        from optuna.trial import TrialState

        folds = _folds_of(trial)
        value, gap = self._score_of(trial)
        states: dict[TrialState, State] = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
        return Trial(
            number=number,
            parameters={name: trial.params[name] for name in self.search.space},
            state=states[trial.state],
            fold_scores=tuple(score for score, _, _ in folds),
            fold_train_scores=tuple(train_score for _, train_score, _ in folds),
            gap=gap,
            value=value,
            seconds=float(sum(seconds for _, _, seconds in folds)),
            error=_error(trial) if trial.state == TrialState.FAIL else "",
        )

    def _score_of(self, trial: optuna.trial.FrozenTrial) -> tuple[float, float]:
        """The objective over the folds that were reached, and the gap."""
        folds = _folds_of(trial)
        if not folds:
            return metrics.NAN, metrics.NAN
        scores, train_scores, _ = zip(*folds, strict=True)
        return objective(self.search.spec.kind, scores, train_scores, self.search.settings.tuning)

    def _taken_up(self, number: int, parameters: Mapping[str, float], previous: Sequence[optuna.trial.FrozenTrial]) -> dict[int, _Scored]:
        """Folds that an earlier attempt at this trial had finished; without them a small budget would never end a trial."""
        if not previous or previous[-1] in self._counted() or previous[-1].params != parameters:
            return {}
        returns = self._load_returns(number)
        if returns is None:
            return {}
        known = zip(self.search.folds, _folds_of(previous[-1]), strict=False)
        return {fold.number: _Scored(*scores, returns[fold.place]) for fold, scores in known}

    def _nothing(self) -> Floats:
        return np.full(self.search.layout.shape[1], np.nan)

    def _save_returns(self, number: int, returns: Floats) -> None:
        write_bytes(_returns_path(self.home, number), _npy(returns))

    def _load_returns(self, number: int) -> Floats | None:
        try:
            returns: Floats = np.load(_returns_path(self.home, number), allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):
            return None
        return returns if returns.shape == self._nothing().shape else None


def _score(kind: Kind, outcome: Floats, predictions: Floats) -> float:
    # A model may be regularised until it says the same of every trade; that is no skill, and not unknown.
    return NO_SKILL[kind] if np.ptp(predictions) == 0.0 else metrics.score(kind, outcome, predictions)


def _sampler(settings: Settings, number: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import TPESampler

    # Of the trial's number: a study that was stopped goes on with other draws than it began with, and with
    # the same as if it had not been stopped.
    seed = int(np.random.SeedSequence([settings.seed, number]).generate_state(1)[0])
    return TPESampler(n_startup_trials=settings.tuning.startup_trials, seed=seed)


def _open(journal: Path, search: _Search) -> optuna.Study:
    """Open or begin the study; call with the folder's lock held."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # What a killed process left: a lock that nobody holds, and half a line that the next one would be glued to.
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.exists():
        whole = journal.read_bytes().rfind(b"\n") + 1
        os.truncate(journal, whole)
    tuning = search.settings.tuning
    try:
        storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=JournalFileOpenLock(str(journal))))
        return optuna.create_study(
            storage=storage,
            study_name=search.name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=tuning.startup_trials, n_warmup_steps=tuning.pruner_warmup_folds),
        )
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise InputError(
            f"{journal} cannot be read: {error}",
            limit="the journal of an Optuna study",
            remedy=f"move {journal.parent} away; the search then begins anew",
        ) from None


@contextlib.contextmanager
def _exclusive(home: Path) -> Iterator[None]:
    """Let one process search; the operating system frees the lock when it dies."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(f"{home} is in use: another process tunes this model", remedy="wait for it to end") from None
        yield


def _read_best(path: Path, family: Family, target: str) -> dict[str, Any] | None:
    """What `best.json` holds; None where there is none."""
    try:
        best = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        problem = f"is not JSON ({error})"
    else:
        problem = _problem(best, family, target)
    if problem:
        raise InputError(
            f"{path} {problem}",
            limit=f"the best parameters of {family}/{target} as amiral tune writes them",
            remedy="run amiral tune again, or move the file away to train with the defaults",
        )
    return dict(best)


def _problem(best: Any, family: Family, target: str) -> str:
    """Say what is wrong with the content of `best.json`; empty when nothing is."""
    needed = {"family", "target", "parameters", "defaults", "sources", "last_exit_ns"}
    if not isinstance(best, dict) or not needed <= best.keys():
        return f"lacks {', '.join(sorted(needed - best.keys() if isinstance(best, dict) else needed))}"
    if (best["family"], best["target"]) != (family, target):
        return f"is of {best['family']}/{best['target']}"
    if type(best["last_exit_ns"]) is not int:
        return f"has last_exit_ns {best['last_exit_ns']!r}"
    parameters = best["parameters"]
    if not isinstance(parameters, dict) or not parameters:
        return f"has parameters {parameters!r}"
    if family not in SPACES:
        return f"is of {family}, which is not tuned"
    space = SPACES[family]
    for name, value in parameters.items():
        if name not in space:
            return f"has the parameter {name!r}, which {family} does not search"
        if type(value) not in (int, float) or not math.isfinite(value) or (space[name].integer and type(value) is not int):
            return f"has {name} = {value!r}"
    if not isinstance(best["defaults"], dict) or not parameters.keys() <= best["defaults"].keys():
        return f"has defaults {best['defaults']!r}"
    return ""


def _error(trial: optuna.trial.FrozenTrial) -> str:
    if "error" in trial.user_attrs:
        return str(trial.user_attrs["error"])
    return "the process ended twice in the same fold of this trial"


def _fold_key(number: int) -> str:
    return f"fold {number}"


def _folds_of(trial: optuna.trial.FrozenTrial) -> list[tuple[float, float, float]]:
    """Score, training score and seconds of the folds that a trial finished, in order."""
    found: list[tuple[float, float, float]] = []
    while _fold_key(len(found)) in trial.user_attrs:
        score, train_score, seconds = trial.user_attrs[_fold_key(len(found))]
        found.append((score, train_score, seconds))
    return found


def _returns_path(home: Path, number: int) -> Path:
    return home / RETURNS_FOLDER / f"{number}.npy"


def _npy(values: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return stream.getvalue()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _moment(nanoseconds: int) -> str:
    return pd.Timestamp(nanoseconds, unit="ns", tz="UTC").isoformat()
