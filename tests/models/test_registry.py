from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from models.export import OnnxScorer, Package
from models.gates.battery import judge
from models.registry import Registry, RegistryEntry, Submission
from models.results import GateResult, Verdict
from models.training import TrainedModel
from pipelines.dataset import Dataset
from pipelines.errors import InputError, StorageError
from pipelines.settings import Settings

Trained = tuple[TrainedModel, ...]
Submissions = tuple[Submission, ...]


@pytest.fixture(scope="session")
def submissions(trained: Trained, packages: tuple[Package, ...], skilled: Dataset, settings: Settings) -> Submissions:
    """The first model is refused, the second passes, the third is what it is."""
    result = []
    for model, packed in zip(trained, packages, strict=True):
        evaluation = replace(model.evaluation, fold_scores=(0.66, 0.68, 0.67, 0.65, 0.69))
        if evaluation.target == "signal_quality":
            evaluation = replace(evaluation, test_score=0.51)
        result.append(Submission(evaluation, judge(evaluation, skilled, settings, parity=packed.parity), packed))
    return tuple(result)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # One store for the module: a fresh one takes seconds to make. A blank in the path is on purpose.
    return tmp_path_factory.mktemp("data folder") / "mlflow"


def record(folder: Path, submissions: Submissions, settings: Settings, *, name: str = "night 1") -> tuple[RegistryEntry, ...]:
    registry = Registry(folder, settings.registry)
    card = {"rows": 2000}
    return registry.record(submissions, dataset_card=card, settings=settings, run_name=name, extra_artifacts={"notes.txt": "hello"})


@pytest.fixture(scope="module")
def entries(folder: Path, submissions: Submissions, settings: Settings) -> dict[str, RegistryEntry]:
    return {entry.target: entry for entry in record(folder, submissions, settings)}


def test_only_what_passed_every_gate_becomes_a_version(entries: dict[str, RegistryEntry], folder: Path, settings: Settings) -> None:
    assert entries["profitability"].version == 1
    assert entries["profitability"].model_name == "amiral-profitability"
    assert entries["profitability"].reasons == ()
    refused = entries["signal_quality"]
    assert refused.version is None
    assert any("is below 0.55" in reason for reason in refused.reasons)
    registry = Registry(folder, settings.registry)
    assert registry.newest_candidate("signal_quality") is None
    assert registry._client.get_registered_model("amiral-profitability").aliases == {"candidate": 1}


def test_a_rejected_model_stays_as_a_run_with_its_reasons(entries: dict[str, RegistryEntry], folder: Path, settings: Settings) -> None:
    client = Registry(folder, settings.registry)._client
    run = client.get_run(entries["signal_quality"].run_id)
    assert run.data.tags["verdict"] == "rejected"
    assert "ROC-AUC 0.510 on 400 test trades is below 0.55" in run.data.tags["reasons"]
    assert run.data.metrics["test_score"] == 0.51
    assert run.data.params["linear.c"] == "0.1"
    assert run.info.status == "FINISHED"
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.run_name == "night 1"
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} == {"dataset_card.json", "notes.txt"}
    files = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert files == {"model.onnx", "card.json", "gates.json", "evaluation.json"}


def test_a_version_says_where_it_comes_from(entries: dict[str, RegistryEntry], folder: Path, skilled: Dataset, settings: Settings) -> None:
    tags = Registry(folder, settings.registry)._client.get_model_version("amiral-profitability", 1).tags
    assert tags["dataset_hash"] == skilled.content_hash
    assert tags["git_commit"] == "abc123"
    assert tags["data_source"] == "simulated"
    assert tags["verdict"] == "candidate"
    assert len(tags["parameters_hash"]) == 64


def test_another_process_scores_with_what_was_registered(
    entries: dict[str, RegistryEntry], folder: Path, submissions: Submissions, skilled: Dataset, settings: Settings
) -> None:
    found = Registry(folder, settings.registry).newest_candidate("profitability")
    assert found is not None
    onnx, card, version = found
    assert (onnx, card, version) == (submissions[1].package.onnx, submissions[1].package.card, 1)
    evaluation = submissions[1].evaluation
    scores = OnnxScorer(onnx, card).score(skilled.features[evaluation.test_rows])
    assert abs(scores - evaluation.test_predictions).max() < 1e-5


def test_recording_the_same_training_again_writes_nothing(
    entries: dict[str, RegistryEntry], folder: Path, submissions: Submissions, settings: Settings
) -> None:
    client = Registry(folder, settings.registry)._client
    experiment = client.get_experiment_by_name("amiral-nightly").experiment_id
    before = {run.info.run_id for run in client.search_runs([experiment])}
    again = record(folder, submissions, settings, name="night 2")
    assert all(entry.existing for entry in again)
    assert {entry.target: replace(entry, existing=False) for entry in again} == entries
    assert {run.info.run_id for run in client.search_runs([experiment])} == before


def test_a_newer_candidate_takes_the_alias_and_an_old_one_does_not_take_it_back(
    entries: dict[str, RegistryEntry], folder: Path, submissions: Submissions, settings: Settings
) -> None:
    item = submissions[1]
    newer = replace(item, package=replace(item.package, card=item.package.card.model_copy(update={"git_commit": "def456"})))
    assert record(folder, (newer,), settings)[0].version == 2
    assert record(folder, (item,), settings)[0].version == 1
    registry = Registry(folder, settings.registry)
    found = registry.newest_candidate("profitability")
    assert found is not None
    assert (found.version, found.card.git_commit) == (2, "def456")
    rejected = replace(
        newer,
        verdict=replace(newer.verdict, gates=(*newer.verdict.gates, GateResult("more", False, 0.0, "> 0", "no"))),
        package=replace(item.package, card=item.package.card.model_copy(update={"git_commit": "ghi789"})),
    )
    assert record(folder, (rejected,), settings)[0].version is None
    assert registry.newest_candidate("profitability") == found


def test_a_model_of_simulated_trades_never_takes_the_alias_of_a_real_one(
    folder: Path, submissions: Submissions, settings: Settings
) -> None:
    item = submissions[1]

    def of(source: str, commit: str) -> Submission:
        card = item.package.card.model_copy(update={"git_commit": commit, "data_sources": {source: 4000}})
        return replace(item, package=replace(item.package, card=card))

    registry = Registry(folder / "alias", settings.registry)
    versions = []
    for source, commit in (("simulated", "a"), ("replay", "b"), ("simulated", "c"), ("replay", "d")):
        registry.record((of(source, commit),), dataset_card={"rows": 4000}, settings=settings, run_name=commit)
        found = registry.newest_candidate("profitability")
        assert found is not None
        versions.append(found.version)
    assert versions == [1, 2, 2, 4]


def test_an_interrupted_record_is_completed_without_a_second_version(
    entries: dict[str, RegistryEntry], folder: Path, submissions: Submissions, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = submissions[1]
    item = replace(item, package=replace(item.package, card=item.package.card.model_copy(update={"git_commit": "interrupted"})))
    registry = Registry(folder, settings.registry)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry._client, "set_terminated", interrupt)
        with pytest.raises(KeyboardInterrupt):
            registry.record((item,), dataset_card={"rows": 1}, settings=settings, run_name="cut")
    count = len(registry._client.search_model_versions("name = 'amiral-profitability'"))
    (entry,) = record(folder, (item,), settings)
    assert not entry.existing
    assert len(registry._client.search_model_versions("name = 'amiral-profitability'")) == count
    experiment = registry._client.get_experiment_by_name("amiral-nightly").experiment_id
    assert registry._client.search_runs([experiment], "attributes.status = 'RUNNING'") == []
    found = registry.newest_candidate("profitability")
    assert found is not None
    assert found.card.git_commit == "interrupted"


def test_a_candidate_without_a_parity_gate_is_a_bug(folder: Path, submissions: Submissions, settings: Settings) -> None:
    verdict = Verdict("profitability", "linear", (GateResult("only", True, 1.0, "> 0", "yes"),))
    with pytest.raises(ValueError, match="says nothing about ONNX parity"):
        record(folder, (replace(submissions[1], verdict=verdict),), settings)


def test_missing_files_of_a_version_are_named(entries: dict[str, RegistryEntry], folder: Path, settings: Settings) -> None:
    registry = Registry(folder, settings.registry)
    version = registry._client.get_model_version_by_alias("amiral-profitability", "candidate")
    file = folder / "artifacts" / version.run_id / "artifacts" / "card.json"
    hidden = file.rename(file.with_suffix(".away"))
    with pytest.raises(InputError, match=r"lacks .*card.json"):
        registry.newest_candidate("profitability")
    hidden.rename(file)


def test_an_empty_folder_has_no_candidate_and_stays_empty(tmp_path: Path, settings: Settings) -> None:
    assert Registry(tmp_path / "none", settings.registry).newest_candidate("profitability") is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, submissions: Submissions, settings: Settings) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot write .*file.mlflow"):
        record(tmp_path / "file" / "mlflow", submissions, settings)
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(StorageError, match="cannot write"):
            record(tmp_path / "mlflow", submissions, settings)
        tmp_path.chmod(0o700)
