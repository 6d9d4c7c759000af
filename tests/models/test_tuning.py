from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models import tuning
from models.families import FAMILIES
from models.metrics import auc
from models.training import with_parameters
from models.tuning import SPACES, Dimension, Trial, TuningResult, objective, trial_returns, tune, tuned_parameters
from pipelines.dataset import Dataset
from pipelines.errors import DataRefusedError, InputError, StorageError
from pipelines.features.twelve import FEATURES
from pipelines.settings import PROJECT_ROOT, Family, Settings, load_settings
from pipelines.splits import PurgedWalkForward, assert_no_leakage, embargo_ns, temporal_split
from pipelines.weights import sample_weights
from tests.models.worlds import make_dataset

QUICK = ("tuning.startup_trials=3", "train.xgboost.trees=40", "train.forest.trees=20", "train.lstm.max_epochs=1")


def quick(trials: int, *overrides: str) -> Settings:
    return load_settings(overrides=[*QUICK, f"tuning.trials={trials}", *overrides])


SOURCES = ("simulated",)


def section_of(settings: Settings, family: Family) -> dict[str, object]:
    section: dict[str, object] = getattr(settings.train, family).model_dump()
    return section


def timeless(trials: tuple[Trial, ...]) -> list[Trial]:
    """Trials without the seconds they took; NaN as text, so that it equals itself."""
    return [replace(trial, seconds=0.0, gap=repr(trial.gap), value=repr(trial.value)) for trial in trials]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset(2000, seed=5, auc=0.62)


@pytest.fixture(scope="module")
def boosted(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[TuningResult, Path]:
    """A finished search with pruned trials."""
    folder = tmp_path_factory.mktemp("tuning") / "xgboost" / "profitability"
    return tune(dataset, "xgboost", "profitability", quick(16), folder), folder


def with_noise(dataset: Dataset, rows: np.ndarray, seed: int) -> Dataset:
    """Other features, windows and labels in some rows."""
    rng = np.random.default_rng(seed)
    frame, windows = dataset.frame.copy(), dataset.windows.copy()
    for name in FEATURES:
        frame.loc[rows, f"feature.{name}"] = rng.uniform(-1.0, 1.0, len(rows))
    won = rng.random(len(rows)) < rng.random()
    for name in ("signal_quality", "profitability", "strong_signal"):
        frame.loc[rows, f"target.{name}"] = won.astype(float)
    for name in ("net_pnl", "realized_r", "signal_strength"):
        frame.loc[rows, f"target.{name}"] = rng.random(len(rows))
    windows[rows] = rng.standard_normal(windows[rows].shape)
    return Dataset(frame, {**dataset.card, "content_hash": f"{seed:064d}"}, windows)


# What the search may see


@given(
    seed=st.integers(0, 2**32),
    case=st.sampled_from([("linear", "profitability"), ("linear", "signal_strength"), ("xgboost", "signal_quality")]),
)
# Without shrinking: a smaller seed explains no leak, and every attempt is a search.
@hypothesis_settings(max_examples=4, deadline=None, phases=[Phase.explicit, Phase.generate])
def test_validation_and_test_rows_change_nothing(seed: int, case: tuple[Family, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    dataset, settings = make_dataset(2000, seed=8, auc=0.62), quick(4)
    split = temporal_split(dataset.start, dataset.end, settings.splits)
    unseen = np.arange(split.train[-1] + 1, len(dataset))
    folders = [tmp_path_factory.mktemp("search") for _ in range(2)]
    results = [
        tune(data, *case, settings, folder) for data, folder in zip((dataset, with_noise(dataset, unseen, seed)), folders, strict=True)
    ]
    assert timeless(results[0].trials) == timeless(results[1].trials)
    np.testing.assert_array_equal(*(trial_returns(folder).returns for folder in folders))


def test_rows_of_the_train_part_do_change_the_search(dataset: Dataset, tmp_path: Path) -> None:
    settings = quick(1)
    last = temporal_split(dataset.start, dataset.end, settings.splits).train[-50:]
    before = tune(dataset, "linear", "profitability", settings, tmp_path / "a")
    after = tune(with_noise(dataset, last, 1), "linear", "profitability", settings, tmp_path / "b")
    assert before.trials[0].fold_scores[:3] == after.trials[0].fold_scores[:3]
    assert before.trials[0].fold_scores[3] != after.trials[0].fold_scores[3]


def test_returns_come_from_the_train_part_only_and_the_last_exit_says_so(boosted: tuple[TuningResult, Path], dataset: Dataset) -> None:
    settings = quick(16)
    split = temporal_split(dataset.start, dataset.end, settings.splits)
    returns = trial_returns(boosted[1])
    assert set(returns.rows) <= set(split.train)
    last_exit = json.loads((boosted[1] / "best.json").read_text())["last_exit_ns"]
    assert last_exit == dataset.end[split.train].max()
    assert_no_leakage(returns.rows, split.test, dataset.start, dataset.end, embargo=embargo_ns(settings.splits))


# What comes out


def test_a_trial_by_hand(boosted: tuple[TuningResult, Path], dataset: Dataset) -> None:
    result, folder = boosted
    settings = quick(16)
    trial = next(trial for trial in result.trials[1:] if trial.state == "complete")
    rows = temporal_split(dataset.start, dataset.end, settings.splits).train
    label, r = dataset.target("profitability"), dataset.target("realized_r")
    splitter = PurgedWalkForward(4, dataset.start[rows], dataset.end[rows], embargo=embargo_ns(settings.splits))
    scores, train_scores, earned, tested = [], [], [], []
    for train, test in ((rows[train], rows[test]) for train, test in splitter.split(rows)):
        # Calibrated, as in training: scores and returns must not depend on it.
        model = FAMILIES["xgboost"].build(
            FAMILIES["xgboost"].model("profitability"), with_parameters(settings, "xgboost", trial.parameters)
        )
        weight = sample_weights(dataset.start[train], dataset.end[train], settings.weights)
        model.fit(dataset.features[train], label[train], sample_weight=weight, start=dataset.start[train], end=dataset.end[train])
        inside, outside = (model.predict_proba(dataset.features[part])[:, 1] for part in (train, test))
        scores.append(auc(label[test], outside))
        train_scores.append(auc(label[train], inside))
        earned.append(np.where(outside >= np.median(inside), r[test], 0.0))
        tested.append(test)
    assert trial.fold_scores == pytest.approx(scores)
    assert trial.fold_train_scores == pytest.approx(train_scores)
    assert trial.gap == pytest.approx(np.mean(train_scores) - np.mean(scores))
    assert trial.value == pytest.approx(np.mean(scores) - 0.5 * max(0.0, trial.gap - 0.05))
    returns = trial_returns(folder)
    np.testing.assert_array_equal(returns.rows, np.concatenate(tested))
    np.testing.assert_array_equal(returns.times, dataset.start[np.concatenate(tested)])
    np.testing.assert_array_equal(returns.folds, np.repeat(np.arange(4), [len(test) for test in tested]))
    np.testing.assert_array_equal(returns.returns[:, trial.number], np.concatenate(earned))


def test_the_best_is_at_least_the_default(boosted: tuple[TuningResult, Path]) -> None:
    result, folder = boosted
    section = quick(16).train.xgboost
    assert result.default is result.trials[0]
    assert result.trials[0].parameters == {name: getattr(section, name) for name in SPACES["xgboost"]}
    complete = [trial.value for trial in result.trials if trial.state == "complete"]
    assert result.best is not None
    assert result.best.value == max(complete) >= result.trials[0].value
    written = json.loads((folder / "best.json").read_text())
    assert written["parameters"] == result.best.parameters
    assert (written["value"], written["default_value"]) == (result.best.value, result.trials[0].value)
    assert (written["trials"], written["complete"], written["finished"]) == (16, len(complete), True)


def test_pruned_trials_are_kept(boosted: tuple[TuningResult, Path]) -> None:
    result, folder = boosted
    returns = trial_returns(folder)
    assert returns.returns.shape == (len(returns.rows), 16)
    assert returns.numbers == tuple(range(16))
    assert {"complete", "pruned"} == set(returns.states)
    for trial in result.trials:
        reached = len(trial.fold_scores)
        # One fold of warm-up, and after the last one there is nothing left to save.
        assert reached == 4 if trial.state == "complete" else 2 <= reached <= 3
        assert returns.states[trial.number] == trial.state
        np.testing.assert_array_equal(np.isfinite(returns.returns[:, trial.number]), returns.folds < reached)


def test_a_fresh_search_gives_the_same_trials_and_is_quiet(
    boosted: tuple[TuningResult, Path], dataset: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Another number of threads, too.
    again = tune(dataset, "xgboost", "profitability", quick(16, "train.workers=3"), tmp_path)
    assert timeless(again.trials) == timeless(boosted[0].trials)
    np.testing.assert_array_equal(trial_returns(tmp_path).returns, trial_returns(boosted[1]).returns)
    assert capfd.readouterr() == ("", "")


def test_the_gap_penalty_prefers_the_regularised_model_where_there_is_only_noise(tmp_path: Path) -> None:
    noise = make_dataset(2000, seed=2)
    greedy = ("train.xgboost.max_depth=4", "train.xgboost.min_child_weight=1.0", "train.xgboost.learning_rate=0.2")
    prudent = ("train.xgboost.max_depth=1", "train.xgboost.min_child_weight=60.0", "train.xgboost.learning_rate=0.02")

    def value(model: tuple[str, ...], penalty: float) -> float:
        settings = quick(1, *model, "train.xgboost.reg_lambda=1.0", f"tuning.gap_penalty={penalty}")
        best = tune(noise, "xgboost", "profitability", settings, tmp_path).best
        assert best is not None
        return best.value

    # By its folds alone luck would choose the model that learns by heart.
    assert value(greedy, 0.0) > value(prudent, 0.0)
    assert value(prudent, 0.5) > value(greedy, 0.5)


def test_a_gap_of_correlations_counts_half() -> None:
    settings = load_settings().tuning
    assert objective("regression", [0.1], [0.4], settings) == pytest.approx((0.1 - 0.5 * (0.15 - 0.05), 0.15))
    assert objective("regression", [0.1], [0.2], settings) == pytest.approx((0.1, 0.05))
    assert objective("classification", [0.6], [0.5], settings) == pytest.approx((0.6, -0.1))


@pytest.mark.parametrize("family", SPACES)
def test_every_family_can_be_tuned(family: Family, tmp_path: Path) -> None:
    settings = quick(2, f"ladder.min_trades.{family}=500", "tuning.folds=2", "train.lstm.hidden=4")
    data = make_dataset(700, seed=1, auc=0.7)
    targets = ("signal_quality", "signal_strength")
    for target in targets:
        result = tune(data, family, target, settings, tmp_path / target)
        assert [trial.state for trial in result.trials] == ["complete", "complete"]
        assert set(result.trials[1].parameters) <= set(SPACES[family])
        assert result.trials[1].parameters != result.trials[0].parameters
        assert all(np.isfinite(trial.value) for trial in result.trials)
    found = tuned_parameters(
        tmp_path,
        family,
        ["signal_quality", "signal_strength"],
        before_ns=int(data.end[-1]),
        present=section_of(settings, family),
        sources=SOURCES,
    )
    assert set(found) == {"signal_quality", "signal_strength"}
    for parameters in found.values():
        section = getattr(with_parameters(settings, family, parameters).train, family)
        assert {name: getattr(section, name) for name in parameters} == parameters


@pytest.mark.parametrize(("target", "searched"), [("profitability", "c"), ("signal_strength", "alpha")])
def test_a_linear_model_searches_only_the_penalty_that_it_has(target: str, searched: str, dataset: Dataset, tmp_path: Path) -> None:
    result = tune(dataset, "linear", target, quick(2), tmp_path)
    assert all(set(trial.parameters) == {searched} for trial in result.trials)


@pytest.mark.parametrize("family", SPACES)
def test_the_bounds_are_values_that_the_settings_take_and_go_round_the_defaults(family: Family) -> None:
    settings = load_settings()
    for name, dimension in SPACES[family].items():
        default = getattr(getattr(settings.train, family), name)
        assert isinstance(default, int) == dimension.integer
        assert dimension.low < default < dimension.high
        for bound in (dimension.low, dimension.high):
            value = int(bound) if dimension.integer else bound
            assert getattr(getattr(with_parameters(settings, family, {name: value}).train, family), name) == value


def test_a_default_outside_the_bounds_is_tried_all_the_same(dataset: Dataset, tmp_path: Path) -> None:
    settings = quick(2, "train.xgboost.trees=20", "train.xgboost.reg_lambda=0.0")
    first, second = tune(dataset, "xgboost", "profitability", settings, tmp_path).trials
    assert (first.parameters["trees"], first.parameters["reg_lambda"]) == (20, 0.0)
    assert second.state == "complete"


# Stopping and going on


class Clock:
    """Goes on by one second whenever a fold ends."""

    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[str] = []

    def __call__(self) -> float:
        return self.now

    def progress(self, text: str, done: int, total: int) -> None:
        self.now += 1.0
        self.told.append(f"{text}: {done} of {total}")


def test_a_search_in_small_budgets_ends_like_one_in_one_go(dataset: Dataset, tmp_path: Path) -> None:
    whole = tune(dataset, "linear", "profitability", quick(9), tmp_path / "whole")
    settings = quick(9, "tuning.time_budget_s=3.0")
    told = []
    for _ in range(13):  # of 3 folds each: enough for 9 trials of 4
        clock = Clock()
        result = tune(dataset, "linear", "profitability", settings, tmp_path / "parts", progress=clock.progress, clock=clock)
        assert clock.now <= 3.0
        told += clock.told
        assert (tmp_path / "parts" / "best.json").exists() == bool(result.trials)
        assert result.finished == (len(result.trials) == 9)
        if result.finished:
            break
        assert clock.now == 3.0
    assert result.finished
    assert timeless(result.trials) == timeless(whole.trials)
    np.testing.assert_array_equal(trial_returns(tmp_path / "parts").returns, trial_returns(tmp_path / "whole").returns)
    # No fold was fitted twice, although the budget ends in the middle of trials.
    assert len(told) == len(set(told)) == sum(len(trial.fold_scores) for trial in whole.trials)
    assert told[:5] == [
        *(f"trial 1, fold {fold}: {fold} of 36" for fold in (1, 2, 3, 4)),
        "trial 2, fold 1: 5 of 36",
    ]


def test_a_finished_search_does_nothing_and_more_trials_go_on_from_there(dataset: Dataset, tmp_path: Path) -> None:
    five = tune(dataset, "linear", "profitability", quick(5), tmp_path)
    clock = Clock()
    assert tune(dataset, "linear", "profitability", quick(5), tmp_path, progress=clock.progress).trials == five.trials
    assert not clock.told
    seven = tune(dataset, "linear", "profitability", quick(7), tmp_path, progress=clock.progress)
    assert seven.trials[:5] == five.trials
    assert {text.split(",")[0] for text in clock.told} == {"trial 6", "trial 7"}
    assert len({trial.parameters["c"] for trial in seven.trials}) == 7


def test_other_data_and_other_settings_begin_another_study_beside_the_old_one(dataset: Dataset, tmp_path: Path) -> None:
    first = tune(dataset, "linear", "profitability", quick(2), tmp_path)
    kept = {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}
    other_data = tune(with_noise(dataset, np.arange(50), 0), "linear", "profitability", quick(1), tmp_path)
    other_default = tune(dataset, "linear", "profitability", quick(3, "train.linear.c=0.5"), tmp_path)
    assert len({first.folder, other_data.folder, other_default.folder}) == 3
    assert {path: path.read_bytes() for path in kept} == kept
    assert json.loads((tmp_path / "best.json").read_text())["study"] == other_default.folder.name
    assert trial_returns(tmp_path).numbers == (0, 1, 2)


def test_ctrl_c_ends_the_search_and_loses_nothing(dataset: Dataset, tmp_path: Path) -> None:
    def interrupt(text: str, done: int, total: int) -> None:
        if text == "trial 3, fold 2":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(dataset, "linear", "profitability", quick(5), tmp_path, progress=interrupt)
    assert len(json.loads((next(tmp_path.glob("*/trials.json"))).read_text())["trials"]) == 2
    clock = Clock()
    result = tune(dataset, "linear", "profitability", quick(5), tmp_path, progress=clock.progress)
    assert clock.told[0].startswith("trial 3, fold 3")
    assert timeless(result.trials) == timeless(tune(dataset, "linear", "profitability", quick(5), tmp_path / "whole").trials)


SCRIPT = """
import os, signal, sys
from pathlib import Path
from models import tuning
from tests.models.test_tuning import quick
from tests.models.worlds import make_dataset

when, folder = sys.argv[1:]

def die(text, done, total):
    if text == when:
        os.kill(os.getpid(), signal.SIGKILL)

score = tuning._Search.score

def deadly(self, fold, parameters):
    if when == "out of memory" and parameters["c"] != 0.1:
        os.kill(os.getpid(), signal.SIGKILL)
    return score(self, fold, parameters)

tuning._Search.score = deadly
tuning.tune(make_dataset(2000, seed=5, auc=0.62), "linear", "profitability", quick(6), Path(folder), progress=die)
"""


@pytest.fixture
def killed(tmp_path: Path) -> Callable[[str], Path]:
    """Tune in a process of its own, which is killed at the given moment."""

    def run(when: str) -> Path:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
        found = subprocess.run([sys.executable, "-c", SCRIPT, when, str(tmp_path)], env=environment, capture_output=True, check=False)
        assert found.returncode == -signal.SIGKILL, found.stderr.decode()
        return tmp_path

    return run


def test_a_killed_search_goes_on(
    killed: Callable[[str], Path], dataset: Dataset, tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = killed("trial 5, fold 2")
    (home,) = (path for path in folder.iterdir() if path.is_dir())
    assert len(json.loads((home / "trials.json").read_text())["trials"]) == 4
    # Killed while writing: half a line, and Optuna's lock.
    with (home / "study.journal").open("ab") as journal:
        journal.write(b'{"op_code":8,"worker_id":"00')
    (home / "study.journal.lock").touch()
    clock = Clock()
    result = tune(dataset, "linear", "profitability", quick(6), folder, progress=clock.progress)
    assert capfd.readouterr().err == ""  # Optuna would wait half a minute for the lock, then warn
    assert clock.told[0].startswith("trial 5, fold 3")
    assert result.finished
    whole = tune(dataset, "linear", "profitability", quick(6), tmp_path_factory.mktemp("whole"))
    assert timeless(result.trials) == timeless(whole.trials)


def test_parameters_that_kill_the_process_are_given_up_after_the_second_time(killed: Callable[[str], Path], dataset: Dataset) -> None:
    killed("out of memory")
    folder = killed("out of memory")
    result = tune(dataset, "linear", "profitability", quick(6), folder)
    assert [trial.state for trial in result.trials[:3]] == ["complete", "failed", "complete"]
    assert "ended twice" in result.trials[1].error
    assert np.isnan(trial_returns(folder).returns[:, 1]).all()


def test_one_process_at_a_time(dataset: Dataset, tmp_path: Path) -> None:
    def second(text: str, done: int, total: int) -> None:
        with pytest.raises(StorageError, match="another process tunes"):
            tune(dataset, "linear", "profitability", quick(1), tmp_path)

    assert tune(dataset, "linear", "profitability", quick(1), tmp_path, progress=second).finished


# What goes wrong


def test_failed_trials_are_kept_and_do_not_end_the_search(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tuning.SPACES, "linear", {"c": Dimension(-1.0, 1.0)})
    result = tune(dataset, "linear", "profitability", quick(10), tmp_path)
    failed = [trial for trial in result.trials if trial.state == "failed"]
    assert result.finished
    assert 0 < len(failed) < 10
    assert all("greater than 0" in trial.error and trial.parameters["c"] <= 0.0 for trial in failed)
    assert np.isnan(trial_returns(tmp_path).returns[:, failed[0].number]).all()


def test_what_breaks_the_default_is_not_searched_round(dataset: Dataset, tmp_path: Path) -> None:
    frame = dataset.frame.copy()
    frame.loc[3, f"feature.{FEATURES[0]}"] = np.inf
    broken = Dataset(frame, dataset.card, dataset.windows)
    for _ in range(2):
        with pytest.raises(InputError, match="infinite"):
            tune(broken, "linear", "profitability", quick(4), tmp_path)
    assert not (tmp_path / "best.json").exists()
    # The card still says that it is the same dataset: once mended, the search begins.
    assert tune(dataset, "linear", "profitability", quick(2), tmp_path).finished


def test_the_ensemble_is_not_tuned(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ensemble is not tuned.*linear, forest, xgboost, lstm.*tune its members"):
        tune(dataset, "ensemble", "profitability", quick(1), tmp_path)
    assert tuned_parameters(tmp_path, "ensemble", ["profitability"], before_ns=0, present={}, sources=SOURCES) == {}


def test_a_target_that_the_family_does_not_have(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"linear has no model of 'pnl_prediction'.*signal_quality, profitability, signal_strength"):
        tune(dataset, "linear", "pnl_prediction", quick(1), tmp_path)


def test_too_few_trades(tmp_path: Path) -> None:
    with pytest.raises(DataRefusedError, match="XGBoost: 1,999 of 2,000 clean trades"):
        tune(make_dataset(1999, seed=0), "xgboost", "profitability", quick(1), tmp_path)


def test_one_class_only_in_a_fold(dataset: Dataset, tmp_path: Path) -> None:
    frame = dataset.frame.copy()
    frame.loc[:400, "target.profitability"] = 0.0
    with pytest.raises(DataRefusedError, match=r"fold 1 of 4: all \d+ training trades have the same profitability, 0"):
        tune(Dataset(frame, dataset.card, dataset.windows), "linear", "profitability", quick(1), tmp_path)


def test_trades_without_a_label_are_left_out(tmp_path: Path) -> None:
    data = make_dataset(2000, seed=5)
    frame = data.frame.copy()
    frame.loc[::7, "target.exit_timing"] = np.nan
    result = tune(Dataset(frame, data.card, data.windows), "xgboost", "optimal_exit_timing", quick(1), tmp_path)
    assert result.trials[0].state == "complete"
    assert not (trial_returns(tmp_path).rows % 7 == 0).any()


def test_a_damaged_journal(dataset: Dataset, tmp_path: Path) -> None:
    home = tune(dataset, "linear", "profitability", quick(1), tmp_path).folder
    lines = (home / "study.journal").read_bytes().splitlines(keepends=True)
    (home / "study.journal").write_bytes(b"".join([*lines[:3], b"\x00\x00\n", *lines[3:]]))
    with pytest.raises(InputError, match=r"study.journal cannot be read.*move .* away"):
        tune(dataset, "linear", "profitability", quick(2), tmp_path)


def test_returns_that_are_lost_or_damaged(boosted: tuple[TuningResult, Path], tmp_path: Path) -> None:
    result, original = boosted
    folder = shutil.copytree(original, tmp_path / "copy")
    lost = folder / result.folder.name / "returns" / "3.npy"
    content = lost.read_bytes()
    lost.write_bytes(content[:200])
    with pytest.raises(InputError, match=r"cannot be read.*run amiral tune again"):
        trial_returns(folder)
    lost.unlink()
    with pytest.raises(InputError, match=r"3\.npy does not exist"):
        trial_returns(folder)


# What training takes from it


def test_parameters_that_saw_the_test_part_are_refused(boosted: tuple[TuningResult, Path]) -> None:
    result, folder = boosted
    last_exit = json.loads((folder / "best.json").read_text())["last_exit_ns"]
    present = section_of(quick(1), "xgboost")
    targets = ["profitability", "signal_quality"]
    found = tuned_parameters(folder.parent, "xgboost", targets, before_ns=last_exit + 1, present=present, sources=SOURCES)
    assert result.best is not None
    assert found == {"profitability": result.best.parameters}
    with pytest.raises(
        InputError, match=r"xgboost/profitability were chosen by trades up to 2024-.*run amiral tune on the present dataset"
    ):
        tuned_parameters(folder.parent, "xgboost", ["profitability"], before_ns=last_exit, present=present, sources=SOURCES)


def test_a_setting_that_was_changed_since_the_search_stays_as_it_was_changed(boosted: tuple[TuningResult, Path]) -> None:
    result, folder = boosted
    assert result.best is not None
    present = section_of(quick(1, "train.xgboost.max_depth=3"), "xgboost")
    found = tuned_parameters(folder.parent, "xgboost", ["profitability"], before_ns=2**62, present=present, sources=SOURCES)
    assert found == {}  # no trial has scored the mixture


def test_parameters_of_simulated_trades_are_not_taken_for_recorded_ones(boosted: tuple[TuningResult, Path]) -> None:
    present = section_of(quick(1), "xgboost")
    with pytest.raises(InputError, match=r"chosen by simulated trades.*replay.*tuning.use=false"):
        tuned_parameters(boosted[1].parent, "xgboost", ["profitability"], before_ns=2**62, present=present, sources=["replay"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "lacks defaults, family, last_exit_ns"),
        ({"parameters": {}}, "has parameters {}"),
        ({"parameters": {"c": 1.0}}, "'c', which xgboost does not search"),
        ({"parameters": {"max_depth": 2.5}}, "max_depth = 2.5"),
        ({"parameters": {"subsample": None}}, "subsample = None"),
        ({"defaults": {"max_depth": 2}}, "has defaults"),
        ({"target": "signal_quality"}, "is of xgboost/signal_quality"),
        ({"last_exit_ns": None}, "last_exit_ns None"),
    ],
)
def test_damaged_best_parameters(change: str | dict[str, object], message: str, boosted: tuple[TuningResult, Path], tmp_path: Path) -> None:
    content = (boosted[1] / "best.json").read_text()
    path = tmp_path / "profitability" / "best.json"
    path.parent.mkdir()
    path.write_text(change if isinstance(change, str) else json.dumps(json.loads(content) | change))
    with pytest.raises(InputError) as caught:
        tuned_parameters(tmp_path, "xgboost", ["profitability"], before_ns=2**62, present=section_of(quick(1), "xgboost"), sources=SOURCES)
    assert message in caught.value.message
    assert "run amiral tune again" in caught.value.remedy
