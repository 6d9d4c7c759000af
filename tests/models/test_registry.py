from __future__ import annotations

import itertools
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models.artifact import FEATURES_INPUT, SCORE, WINDOW_INPUT, OnnxScorer, Package
from models.onnx_graph import GraphBuilder
from models.registry import DATABASE, Registry, RegistryEntry, Submission
from models.results import GateResult, Verdict
from models.training import TrainedModel
from pipelines.contracts.base import WINDOW_BARS
from pipelines.dataset import Dataset
from pipelines.errors import InputError, StorageError
from pipelines.features.window import CHANNELS, WINDOW_VERSION
from pipelines.settings import Settings

Submissions = tuple[Submission, ...]

WINDOW_SHAPE = (WINDOW_BARS, len(CHANNELS))
PARITY = GateResult("onnx_parity", True, 1e-7, "<= 1e-05", "ONNX and Python agree")
REFUSED = GateResult("test_score", False, 0.51, ">= 0.55", "ROC-AUC 0.510 on 400 test trades is below 0.55")
IMPORTANCE = b'{"session_time": 0.25}\n'
WRITES = (
    "create_run",
    "log_batch",
    "log_artifacts",
    "set_tag",
    "set_terminated",
    "create_registered_model",
    "create_model_version",
    "set_registered_model_alias",
)
"""What the registry calls MLflow for in order to write."""


@pytest.fixture(scope="session")
def submissions(trained: tuple[TrainedModel, ...], packages: tuple[Package, ...]) -> Submissions:
    """The first linear model is refused, the others pass."""
    result = []
    for model, packed in zip(trained, packages, strict=True):
        evaluation = model.evaluation
        refused = evaluation.target == "signal_quality"
        evaluation = replace(evaluation, test_score=0.51) if refused else evaluation
        verdict = Verdict(evaluation.target, "linear", (PARITY, REFUSED) if refused else (PARITY,))
        files = {"importance.json": IMPORTANCE, "plots/importance.svg": b"<svg/>"}
        result.append(Submission(evaluation, verdict, packed, files))
    return tuple(result)


@pytest.fixture(scope="session")
def passing(submissions: Submissions) -> Submission:
    """The linear model of profitability, with two folds."""
    return small(submissions[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A blank in the path is on purpose.
    return tmp_path_factory.mktemp("data folder") / "mlflow"


@pytest.fixture(scope="module")
def recorded(folder: Path, submissions: Submissions, settings: Settings) -> Registry:
    """The registry after the first training; no test changes what it holds."""
    registry = Registry(folder, settings.registry)
    record(registry, submissions, settings)
    return registry


Fresh = Callable[[], Registry]


@pytest.fixture(scope="module")
def fresh(recorded: Registry) -> Fresh:
    """Makes empty registries: other names in the same database, for a new one takes seconds."""
    numbers = itertools.count(1)

    def make() -> Registry:
        number = next(numbers)
        names = {"model_prefix": f"test{number}", "experiment": f"test {number}"}
        registry = Registry(recorded.folder, recorded.settings.model_copy(update=names))
        registry._client = recorded._client
        return registry

    return make


@pytest.fixture
def registry(fresh: Fresh) -> Registry:
    return fresh()


def record(registry: Registry, submissions: Sequence[Submission], settings: Settings, name: str = "night 1") -> tuple[RegistryEntry, ...]:
    extra = {"notes.txt": "hello"}
    return registry.record(submissions, dataset_card={"rows": 2000}, settings=settings, run_name=name, extra_artifacts=extra)


def changed(item: Submission, *, family: str = "", commit: str = "", source: str = "", onnx_file: bytes = b"") -> Submission:
    card = item.package.card
    update: dict[str, Any] = {"family": family or card.family, "git_commit": commit or card.git_commit}
    if source:
        update["data_sources"] = {source: 2000}
    family = str(update["family"])
    return replace(
        item,
        evaluation=replace(item.evaluation, family=family),
        verdict=replace(item.verdict, family=family),
        package=replace(item.package, card=card.model_copy(update=update), onnx=onnx_file or item.package.onnx),
    )


def small(item: Submission, folds: int = 2) -> Submission:
    test, train = item.evaluation.fold_scores[:folds], item.evaluation.fold_train_scores[:folds]
    return replace(item, evaluation=replace(item.evaluation, fold_scores=test, fold_train_scores=train))


def judged(item: Submission, *gates: GateResult) -> Submission:
    return replace(item, verdict=replace(item.verdict, gates=(PARITY, *gates)))


def all_runs(registry: Registry) -> list[Any]:
    return list(registry._client.search_runs([registry._experiment]))


def runs_of(registry: Registry, kind: str) -> dict[str, Any]:
    """Runs of one kind by name."""
    found = [run for run in all_runs(registry) if run.data.tags["amiral.kind"] == kind]
    names = [run.info.run_name for run in found]
    assert len(set(names)) == len(names)
    return dict(zip(names, found, strict=True))


def alias(registry: Registry) -> int:
    return int(registry._client.get_registered_model(registry.model_name("profitability")).aliases["candidate"])


def files_of(registry: Registry, run_id: str) -> set[str]:
    folder = registry.folder / "artifacts" / run_id / "artifacts"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_only_what_passed_every_gate_becomes_a_version(registry: Registry, submissions: Submissions, settings: Settings) -> None:
    refused, passed, _ = record(registry, submissions, settings)
    assert (passed.family, passed.target, passed.model_name) == ("linear", "profitability", registry.model_name("profitability"))
    assert (passed.version, passed.reasons, passed.existing) == (1, (), False)
    assert (refused.version, refused.reasons) == (None, (REFUSED.reason,))
    assert registry.newest_candidate("signal_quality") is None
    assert registry._client.get_registered_model(passed.model_name).aliases == {"candidate": 1}


def test_a_training_is_a_tree_of_families_with_their_models_and_folds(
    registry: Registry, submissions: Submissions, skilled: Dataset, settings: Settings
) -> None:
    forest = [changed(item, family="forest") for item in submissions[:2]]
    record(registry, [*submissions, *forest], settings)
    (training,) = runs_of(registry, "training").values()
    families, models, folds = (runs_of(registry, kind) for kind in ("family", "model", "fold"))
    assert training.info.run_name == "night 1"
    assert training.data.metrics == {"models": 5.0, "candidates": 3.0}
    assert set(families) == {"linear", "forest"}
    assert set(models) == {"linear/signal_quality", "linear/profitability", "linear/signal_strength"} | {
        "forest/signal_quality",
        "forest/profitability",
    }
    assert set(folds) == {f"{family}/fold {number}" for family in families for number in range(1, 6)}
    assert "mlflow.parentRunId" not in training.data.tags
    for run in families.values():
        assert run.data.tags["mlflow.parentRunId"] == training.info.run_id
    for name, run in (models | folds).items():
        assert run.data.tags["mlflow.parentRunId"] == families[name.split("/")[0]].info.run_id
        assert run.data.tags["family"] == name.split("/")[0]
    for run in all_runs(registry):
        assert run.info.status == "FINISHED"
        assert run.data.tags["dataset_hash"] == skilled.content_hash
        assert run.data.tags["git_commit"] == "abc123"
        assert len(run.data.tags["parameters_hash"]) == 64
        assert run.data.tags["data_source"] == "simulated"
    third = folds["forest/fold 3"]
    assert third.data.tags["fold"] == "3"
    assert third.data.metrics == {
        f"{item.evaluation.target}.{name}": scores[2]
        for item in forest
        for name, scores in (("score", item.evaluation.fold_scores), ("train_score", item.evaluation.fold_train_scores))
    }


def test_a_rejected_model_stays_as_a_run_with_its_reasons(recorded: Registry) -> None:
    run = runs_of(recorded, "model")["linear/signal_quality"]
    assert run.data.tags["verdict"] == "rejected"
    assert run.data.tags["reasons"] == REFUSED.reason
    assert run.data.metrics["test_score"] == 0.51
    assert run.info.status == "FINISHED"
    gates = json.loads((recorded.folder / "artifacts" / run.info.run_id / "artifacts" / "gates.json").read_text())
    assert [gate["name"] for gate in gates["gates"]] == ["onnx_parity", "test_score"]


def test_every_run_keeps_its_files(recorded: Registry) -> None:
    (training,) = runs_of(recorded, "training").values()
    assert files_of(recorded, training.info.run_id) == {"dataset_card.json", "environment.json", "notes.txt"}
    model = runs_of(recorded, "model")["linear/signal_quality"]
    ours = {"model.onnx", "card.json", "gates.json", "evaluation.json", "importance.json", "plots/importance.svg"}
    mlflows = {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt"}
    assert files_of(recorded, model.info.run_id) == ours | mlflows
    # The path is the one that MLflow gives, too.
    assert {item.path for item in recorded._client.list_artifacts(model.info.run_id, "plots")} == {"plots/importance.svg"}


def test_the_environment_is_kept_with_the_training(recorded: Registry, passing: Submission) -> None:
    (training,) = runs_of(recorded, "training").values()
    text = (recorded.folder / "artifacts" / training.info.run_id / "artifacts" / "environment.json").read_text()
    environment = json.loads(text)
    assert environment["python"] == platform.python_version()
    assert environment["platform"] == platform.platform()
    assert environment["versions"] == passing.package.card.versions


def test_settings_and_parameters_of_the_family_become_parameters(recorded: Registry, settings: Settings) -> None:
    params = runs_of(recorded, "model")["linear/profitability"].data.params
    assert params["linear.c"] == str(settings.train.linear.c)
    assert params["seed"] == str(settings.seed)
    assert params["ladder.min_trades.xgboost"] == str(settings.ladder.min_trades.xgboost)
    assert params["calibration.method"] == settings.calibration.method
    assert params["weights.time_decay"] == str(settings.weights.time_decay)
    assert params["dataset_rows"] == "2000"
    assert {name.split(".")[0] for name in params} == {
        *("seed", "splits", "weights", "calibration", "policy", "gates", "ladder"),
        *("linear", "dataset_rows"),
    }
    for run in [*runs_of(recorded, "fold").values(), *runs_of(recorded, "family").values()]:
        assert run.data.params == {name: value for name, value in params.items() if name.startswith("linear.")}


def test_parameters_that_tuning_sets_apart_are_named_by_model(registry: Registry, submissions: Submissions, settings: Settings) -> None:
    def with_c(item: Submission, c: float) -> Submission:
        return replace(item, evaluation=replace(item.evaluation, parameters=item.evaluation.parameters | {"c": c}))

    record(registry, (with_c(submissions[0], 0.1), with_c(submissions[1], 0.2)), settings)
    params = runs_of(registry, "family")["linear"].data.params
    assert params["signal_quality.linear.c"] == "0.1"
    assert params["profitability.linear.c"] == "0.2"
    assert "linear.c" not in params
    assert params["linear.alpha"] == str(settings.train.linear.alpha)
    assert runs_of(registry, "model")["linear/profitability"].data.params["linear.c"] == "0.2"


def test_a_parameter_that_mlflow_would_cut_is_refused_before_anything_is_written(
    registry: Registry, passing: Submission, settings: Settings
) -> None:
    def with_note(length: int) -> Submission:
        return replace(passing, evaluation=replace(passing.evaluation, parameters={"note": "x" * length}))

    with pytest.raises(InputError, match=r"linear\.note of linear/profitability has 6001 characters; expected at most 6000"):
        record(registry, [with_note(6001)], settings)
    assert all_runs(registry) == []
    record(registry, [with_note(6000)], settings)
    assert runs_of(registry, "model")["linear/profitability"].data.params["linear.note"] == "x" * 6000


def test_long_reasons_are_cut_for_all_to_see(registry: Registry, passing: Submission, settings: Settings) -> None:
    reason = "the fold said " + "no " * 4000
    (entry,) = record(registry, [judged(passing, replace(REFUSED, reason=reason))], settings)
    run = registry._client.get_run(entry.run_id)
    assert run.data.tags["reasons"].startswith("the fold said no")
    assert run.data.tags["reasons"].endswith(" ... (in full in gates.json)")
    assert reason in (registry.folder / "artifacts" / entry.run_id / "artifacts" / "gates.json").read_text()


def test_scores_of_calibration_fit_and_folds_become_metrics(registry: Registry, passing: Submission, settings: Settings) -> None:
    folds, train = (0.6, float("nan"), 0.7), (0.8, 0.9, 0.85)
    evaluation = replace(passing.evaluation, fold_scores=folds, fold_train_scores=train, details={"epochs": 7.0}, train_score=float("nan"))
    (entry,) = record(registry, [replace(passing, evaluation=evaluation)], settings)
    metrics = registry._client.get_run(entry.run_id).data.metrics
    assert metrics["test_calibration_brier"] == evaluation.calibration["brier"]
    assert metrics["test_calibration_brier_raw"] == evaluation.calibration["brier_raw"]
    assert metrics["test_roc_auc"] == evaluation.metrics["roc_auc"]
    assert metrics["detail_epochs"] == 7.0
    assert metrics["policy_total"] == evaluation.policy_performance.total
    assert "train_score" not in metrics

    def history(name: str) -> dict[int, float]:
        return {item.step: item.value for item in registry._client.get_metric_history(entry.run_id, name)}

    assert history("fold_score") == {1: 0.6, 3: 0.7}
    assert history("fold_train_score") == {1: 0.8, 2: 0.9, 3: 0.85}
    assert "profitability.score" not in runs_of(registry, "fold")["linear/fold 2"].data.metrics


def test_a_version_says_where_it_comes_from(recorded: Registry, skilled: Dataset) -> None:
    assert recorded.model_name("signal_strength") == "amiral-signal-strength"
    tags = recorded._client.get_model_version("amiral-profitability", 1).tags
    assert tags["dataset_hash"] == skilled.content_hash
    assert tags["git_commit"] == "abc123"
    assert tags["data_source"] == "simulated"
    assert tags["verdict"] == "candidate"
    assert tags["family"] == "linear"
    assert len(tags["parameters_hash"]) == 64


def test_another_process_scores_with_what_was_registered(
    recorded: Registry, passing: Submission, skilled: Dataset, settings: Settings
) -> None:
    found = Registry(recorded.folder, settings.registry).newest_candidate("profitability")
    assert found is not None
    assert found.onnx == passing.package.onnx
    assert (found.card, found.version) == (passing.package.card, 1)
    evaluation = passing.evaluation
    scores = OnnxScorer(found.onnx, found.card).score(skilled.features[evaluation.test_rows])
    assert abs(scores - evaluation.test_predictions).max() < 1e-5


def test_the_kept_bytes_are_those_of_the_package_and_not_what_a_writer_makes_of_them(
    registry: Registry, passing: Submission, settings: Settings
) -> None:
    # The same model written in another way: its first field, the version of the format, comes a second time.
    package = replace(passing.package, onnx=passing.package.onnx + b"\x08\x08")
    assert onnx.load_from_string(package.onnx) == onnx.load_from_string(passing.package.onnx)
    record(registry, [replace(passing, package=package)], settings)
    found = registry.newest_candidate("profitability")
    assert found is not None
    assert found.onnx == package.onnx


@pytest.fixture
def mlflow_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Points MLflow's own functions at a registry, as a user would."""
    import mlflow

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()

    def point(registry: Registry) -> Any:
        address = f"sqlite:///{registry.folder / DATABASE}"
        mlflow.set_tracking_uri(address)
        mlflow.set_registry_uri(address)
        return mlflow

    yield point
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


def test_mlflow_loads_a_candidate_and_scores_as_we_do(
    folder: Path, recorded: Registry, passing: Submission, skilled: Dataset, mlflow_at: Any
) -> None:
    import mlflow.onnx
    import mlflow.pyfunc

    mlflow_at(recorded)
    address = "models:/amiral-profitability@candidate"
    assert mlflow.onnx.load_model(address) == onnx.load_from_string(passing.package.onnx)
    model = mlflow.pyfunc.load_model(address)
    rows = skilled.features[:200]
    assert np.isnan(rows).any()
    wanted = OnnxScorer(passing.package.onnx, passing.package.card).score(rows)
    found = model.predict({FEATURES_INPUT: rows.astype(np.float32)})
    assert (found[SCORE][:, 0] == wanted).all()
    (features,) = model.metadata.get_input_schema().inputs
    (score,) = model.metadata.get_output_schema().inputs
    assert (features.name, features.shape, features.type) == (FEATURES_INPUT, (-1, 12), np.dtype(np.float32))
    assert (score.name, score.shape, score.type) == (SCORE, (-1, 1), np.dtype(np.float32))
    with pytest.raises(mlflow.exceptions.MlflowException, match="shape"):
        model.predict({FEATURES_INPUT: rows[:, :11].astype(np.float32)})


def test_mlflow_loads_a_recurrent_model_with_its_window(
    registry: Registry, passing: Submission, settings: Settings, mlflow_at: Any
) -> None:
    import mlflow.pyfunc

    graph = GraphBuilder({FEATURES_INPUT: (12,), WINDOW_INPUT: WINDOW_SHAPE})
    mean = graph.node("ReduceMean", WINDOW_INPUT, graph.constant(np.array([1, 2], dtype=np.int64)), keepdims=0)
    column = graph.node("Reshape", mean, graph.constant(np.array([-1, 1], dtype=np.int64)))
    first = graph.node("Gather", FEATURES_INPUT, graph.constant(np.array([0], dtype=np.int64)), axis=1)
    both = graph.build({SCORE: graph.node("Sigmoid", graph.node("Add", column, first)), "agreement": column})
    item = changed(passing, family="lstm", onnx_file=both)
    window = {"window_bars": WINDOW_SHAPE[0], "window_channels": list(CHANNELS), "window_version": WINDOW_VERSION}
    item = replace(item, package=replace(item.package, card=item.package.card.model_copy(update=window)))
    record(registry, [item], settings)
    mlflow_at(registry)
    model = mlflow.pyfunc.load_model(f"models:/{registry.model_name('profitability')}@candidate")
    rng = np.random.default_rng(3)
    rows, windows = rng.normal(size=(7, 12)).astype(np.float32), rng.normal(size=(7, *WINDOW_SHAPE)).astype(np.float32)
    found = model.predict({FEATURES_INPUT: rows, WINDOW_INPUT: windows})
    wanted = OnnxScorer(both, item.package.card).score(rows.astype(float), windows.astype(float))
    assert np.ptp(wanted) > 0.1
    assert (found[SCORE][:, 0] == wanted).all()
    shapes = {spec.name: spec.shape for spec in model.metadata.get_input_schema().inputs}
    assert shapes == {FEATURES_INPUT: (-1, 12), WINDOW_INPUT: (-1, *WINDOW_SHAPE)}
    assert [spec.name for spec in model.metadata.get_output_schema().inputs] == [SCORE, "agreement"]


def test_the_requirements_are_ours_and_never_inferred(
    registry: Registry, passing: Submission, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.models

    def infer(*_: object, **__: object) -> None:
        raise AssertionError("MLflow infers requirements")

    monkeypatch.setattr(mlflow.models, "infer_pip_requirements", infer)
    (entry,) = record(registry, [passing], settings)
    text = (registry.folder / "artifacts" / entry.run_id / "artifacts" / "requirements.txt").read_text()
    pinned = dict(line.split("==") for line in text.split())
    assert set(pinned) == {"mlflow", "onnx", "onnxruntime", "numpy"}
    versions = passing.package.card.versions
    assert {name: versions[name] for name in ("onnx", "onnxruntime", "numpy")} == {
        name: pinned[name] for name in ("onnx", "onnxruntime", "numpy")
    }


def test_recording_the_same_training_again_writes_nothing(registry: Registry, submissions: Submissions, settings: Settings) -> None:
    entries = record(registry, submissions, settings)
    registry._client = client = Interrupting(registry._client, after=-1)
    again = record(registry, submissions, settings, name="night 2")
    assert all(entry.existing for entry in again)
    assert tuple(replace(entry, existing=False) for entry in again) == entries
    # A part of it is nothing new either.
    assert record(registry, submissions[1:2], settings, name="night 3") == again[1:2]
    assert client.calls == 0


def test_another_verdict_on_the_same_model_is_another_record(registry: Registry, submissions: Submissions, settings: Settings) -> None:
    # Only gates.* was changed: card and ONNX file are the same.
    before = record(registry, submissions, settings)
    refused = record(registry, [submissions[0], judged(submissions[1], REFUSED), submissions[2]], settings, name="stricter")
    assert [entry.existing for entry in refused] == [True, False, True]
    assert (refused[1].version, refused[1].reasons) == (None, (REFUSED.reason,))
    assert refused[1].run_id != before[1].run_id
    assert alias(registry) == 1
    passed = record(registry, [judged(submissions[0], PARITY), *submissions[1:]], settings, name="milder")
    assert [entry.version for entry in passed] == [1, 1, 1]
    assert [entry.existing for entry in passed] == [False, True, True]


def test_another_onnx_file_under_the_same_card_is_another_record(registry: Registry, passing: Submission, settings: Settings) -> None:
    (first,) = record(registry, [passing], settings)
    graph = GraphBuilder({FEATURES_INPUT: (12,)})
    largest = graph.node("ReduceMax", FEATURES_INPUT, graph.constant(np.array([1])), keepdims=1)
    other = changed(passing, onnx_file=graph.build({SCORE: largest}))
    (second,) = record(registry, [other], settings)
    assert (first.version, second.version, second.existing) == (1, 2, False)
    found = registry.newest_candidate("profitability")
    assert found is not None
    assert found.onnx == other.package.onnx


def test_a_family_trained_at_another_commit_does_not_register_the_others_again(
    registry: Registry, passing: Submission, settings: Settings
) -> None:
    forest = changed(passing, family="forest")
    record(registry, [passing, forest], settings)
    entries = record(registry, [passing, changed(forest, commit="def456")], settings, name="night 2")
    assert [(entry.version, entry.existing) for entry in entries] == [(1, True), (3, False)]
    # And the other way round: the newest code may have trained the first family.
    entries = record(registry, [changed(passing, commit="ghi789"), changed(forest, commit="def456")], settings, name="night 3")
    assert [(entry.version, entry.existing) for entry in entries] == [(4, False), (3, True)]
    second = runs_of(registry, "training")["night 2"]
    assert second.data.tags["git_commit"] == "abc123,def456"


def test_a_newer_candidate_takes_the_alias_and_an_old_one_does_not_take_it_back(
    registry: Registry, submissions: Submissions, passing: Submission, settings: Settings
) -> None:
    record(registry, submissions, settings)
    newer = changed(passing, commit="def456")
    assert record(registry, (newer,), settings)[0].version == 2
    assert record(registry, (passing,), settings)[0].version == 1
    found = registry.newest_candidate("profitability")
    assert found is not None
    assert (found.version, found.card.git_commit) == (2, "def456")
    rejected = judged(changed(passing, commit="ghi789"), GateResult("more", False, 0.0, "> 0", "no"))
    assert record(registry, (rejected,), settings)[0].version is None
    assert registry.newest_candidate("profitability") == found


def test_the_last_candidate_of_a_training_takes_the_alias(registry: Registry, passing: Submission, settings: Settings) -> None:
    linear, forest, xgboost = (changed(passing, family=family) for family in ("linear", "forest", "xgboost"))
    entries = record(registry, [linear, forest, judged(xgboost, REFUSED)], settings)
    assert [entry.version for entry in entries] == [1, 2, None]
    assert alias(registry) == 2
    found = registry.newest_candidate("profitability")
    assert found is not None
    assert found.card.family == "forest"
    # Recorded anew is only the simplest one; the last candidate of the training is still the forest.
    entries = record(registry, [judged(linear, PARITY), forest], settings)
    assert [(entry.version, entry.existing) for entry in entries] == [(3, False), (2, True)]
    assert alias(registry) == 2
    # So it is when another training has taken the alias since.
    record(registry, [changed(passing, commit="def456")], settings)
    assert alias(registry) == 4
    record(registry, [judged(linear, PARITY, PARITY), forest], settings)
    assert alias(registry) == 2


def test_a_model_of_simulated_trades_never_takes_the_alias_of_a_real_one(
    registry: Registry, passing: Submission, settings: Settings
) -> None:
    versions = []
    for source, commit in (("simulated", "a"), ("replay", "b"), ("simulated", "c"), ("replay", "d")):
        record(registry, [changed(passing, source=source, commit=commit)], settings, name=commit)
        versions.append(alias(registry))
    assert versions == [1, 2, 2, 4]


class Interrupting:
    """A client that counts its writes and is hit by Ctrl-C after so many of them; never when negative."""

    def __init__(self, client: Any, *, after: int) -> None:
        self.client, self.after, self.calls = client, after, 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.client, name)
        if name not in WRITES:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.calls == self.after:
                raise KeyboardInterrupt
            self.calls += 1
            return found(*args, **kwargs)

        return call


def interrupt(registry: Registry, submissions: Sequence[Submission], settings: Settings, *, after: int) -> bool:
    """Record until the given number of writes; returns whether it came to that."""
    whole = registry._client
    registry._client = Interrupting(whole, after=after)
    try:
        record(registry, submissions, settings)
    except KeyboardInterrupt:
        return True
    finally:
        registry._client = whole
    return False


def snapshot(registry: Registry) -> dict[str, Any]:
    """All that a registry holds, less what differs between two fresh ones."""
    runs = {run.info.run_id: run for run in all_runs(registry)}
    names = {run_id: run.info.run_name for run_id, run in runs.items()}
    tree = []
    for run_id, run in runs.items():
        tags = {key: names[value] if key == "mlflow.parentRunId" else value for key, value in run.data.tags.items()}
        history = [(item.step, item.value) for item in registry._client.get_metric_history(run_id, "fold_score")]
        tree.append((names[run_id], run.info.status, tags, run.data.params, run.data.metrics, sorted(history), files_of(registry, run_id)))
    name = registry.model_name("profitability")
    versions = {item.version: names[item.run_id] for item in registry._client.search_model_versions(f"name = '{name}'")}
    return {"tree": sorted(tree, key=lambda row: row[0]), "versions": versions, "candidate": alias(registry)}


def test_a_record_interrupted_at_any_point_is_continued_as_if_nothing_had_happened(
    fresh: Fresh, passing: Submission, settings: Settings
) -> None:
    several = [small(passing, folds=1), small(changed(passing, family="forest"), folds=1)]
    wanted = fresh()
    record(wanted, several, settings)
    whole = snapshot(wanted)
    assert len(whole["tree"]) == 1 + 2 + 2 + 2
    for writes in range(1000):
        registry = fresh()
        if not interrupt(registry, several, settings, after=writes):
            break
        # A half-written training says nothing to the service yet, or all.
        assert registry.newest_candidate("profitability") is None or alias(registry) == 2
        entries = record(registry, several, settings)
        assert [entry.version for entry in entries] == [1, 2]
        assert snapshot(registry) == whole, f"interrupted after {writes} writes"
        assert all(entry.existing for entry in record(registry, several, settings))
    assert writes > len(whole["tree"]) * 3


def test_what_an_interruption_left_is_closed_by_the_next_verdict(registry: Registry, passing: Submission, settings: Settings) -> None:
    assert interrupt(registry, [passing], settings, after=8)
    assert any(run.info.status == "RUNNING" for run in all_runs(registry))
    (entry,) = record(registry, [judged(passing, PARITY)], settings)
    assert entry.version == 1
    assert {run.info.status for run in all_runs(registry)} == {"FINISHED", "KILLED"}


def test_a_run_that_an_interruption_left_moves_to_the_training_that_finishes_it(
    registry: Registry, passing: Submission, settings: Settings
) -> None:
    assert interrupt(registry, [passing, changed(passing, family="forest")], settings, after=12)
    (left,) = runs_of(registry, "model").values()
    (entry,) = record(registry, [passing], settings, name="night 2")
    assert entry.run_id == left.info.run_id
    parents = [entry.run_id]
    while "mlflow.parentRunId" in (tags := registry._client.get_run(parents[-1]).data.tags):
        parents.append(tags["mlflow.parentRunId"])
    assert [registry._client.get_run(run_id).info.run_name for run_id in parents] == ["linear/profitability", "linear", "night 2"]


def test_a_record_interrupted_under_other_settings_is_begun_anew(registry: Registry, passing: Submission, settings: Settings) -> None:
    assert interrupt(registry, [passing], settings, after=8)
    ladder = settings.ladder.model_copy(update={"confidence": 0.8})
    other = settings.model_copy(update={"ladder": ladder})
    (entry,) = record(registry, [passing], other)
    assert registry._client.get_run(entry.run_id).data.params["ladder.confidence"] == "0.8"
    assert not any(run.info.status == "RUNNING" for run in all_runs(registry))
    assert record(registry, [passing], settings)[0].existing


def test_finishing_an_older_record_does_not_take_the_alias_back(fresh: Fresh, passing: Submission, settings: Settings) -> None:
    counted = fresh()
    counted._client = client = Interrupting(counted._client, after=-1)
    record(counted, [passing], settings)
    registry = fresh()
    assert interrupt(registry, [passing], settings, after=client.calls - 1)
    assert alias(registry) == 1
    record(registry, [changed(passing, commit="def456")], settings)
    assert alias(registry) == 2
    assert [entry.version for entry in record(registry, [passing], settings)] == [1]
    assert alias(registry) == 2


@pytest.mark.parametrize(
    "name", ["../up.json", "/etc/passwd", "plots/../../up", "", "plots/", "a//b", ".", "./a", "a\\b", "c:evil", "a\nb"]
)
def test_a_file_that_would_leave_the_folder_is_refused(name: str, passing: Submission) -> None:
    with pytest.raises(InputError, match="expected a plain relative path"):
        replace(passing, files={name: b""})


@pytest.mark.parametrize(
    "name", ["model.onnx", "card.json", "gates.json", "evaluation.json", "MLmodel", "requirements.txt", "conda.yaml/a"]
)
def test_a_file_that_would_replace_one_of_the_model_is_refused(name: str, passing: Submission) -> None:
    with pytest.raises(InputError, match="expected a name of its own"):
        replace(passing, files={name: b""})


def test_a_file_in_the_place_of_a_folder_is_refused(passing: Submission) -> None:
    with pytest.raises(InputError, match="an artifact is named 'plots'"):
        replace(passing, files={"plots/importance.svg": b"", "plots": b""})


def test_an_extra_artifact_that_would_leave_the_folder_is_refused(registry: Registry, passing: Submission, settings: Settings) -> None:
    for name in ("../up.txt", "dataset_card.json"):
        with pytest.raises(InputError, match=name):
            registry.record(
                [passing], dataset_card={"rows": 1}, settings=settings, run_name="x", extra_artifacts={"good.txt": "", name: "text"}
            )
    assert all_runs(registry) == []


def test_the_newest_importance_is_that_of_the_highest_version(registry: Registry, passing: Submission, settings: Settings) -> None:
    assert registry.newest_importance("profitability") is None
    for number in range(1, 11):
        files = {"importance.json": f'{{"vix": {number}}}'.encode()}
        # From the third on of simulated trades: not the candidate, but the newest version all the same.
        item = changed(passing, commit=str(number), source="replay" if number < 3 else "simulated")
        record(registry, [replace(item, files=files)], settings)
    assert alias(registry) == 2
    assert registry.newest_importance("profitability") == (10, '{"vix": 10}')
    # A run that is repeated compares its version with the one before, not with itself.
    assert registry.newest_importance("profitability", below=10) == (9, '{"vix": 9}')
    assert registry.newest_importance("profitability", below=1) is None
    assert registry.newest_importance("signal_strength") is None
    record(registry, [replace(changed(passing, commit="bare"), files={})], settings)
    assert registry.newest_importance("profitability") is None


def test_a_candidate_without_a_parity_gate_is_a_bug(registry: Registry, passing: Submission, settings: Settings) -> None:
    verdict = Verdict("profitability", "linear", (GateResult("only", True, 1.0, "> 0", "yes"),))
    with pytest.raises(ValueError, match="linear/profitability says nothing about ONNX parity"):
        record(registry, (replace(passing, verdict=verdict),), settings)


def test_missing_files_of_a_version_are_named(registry: Registry, passing: Submission, settings: Settings) -> None:
    (entry,) = record(registry, [passing], settings)
    (registry.folder / "artifacts" / entry.run_id / "artifacts" / "card.json").unlink()
    with pytest.raises(InputError, match=r"lacks .*card.json"):
        registry.newest_candidate("profitability")


def test_an_empty_folder_has_no_candidate_and_stays_empty(tmp_path: Path, settings: Settings) -> None:
    registry = Registry(tmp_path / "none", settings.registry)
    assert registry.newest_candidate("profitability") is None
    assert registry.newest_importance("profitability") is None
    assert record(registry, [], settings) == ()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, submissions: Submissions, settings: Settings) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot write .*file.mlflow"):
        record(Registry(tmp_path / "file" / "mlflow", settings.registry), submissions, settings)
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(StorageError, match="cannot write"):
            record(Registry(tmp_path / "mlflow", settings.registry), submissions, settings)
        tmp_path.chmod(0o700)
