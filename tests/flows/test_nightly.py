from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipelines.settings import FAMILIES
from tests.flows.conftest import SMALL, Finished, amiral, small


def test_the_run_ends_with_a_report_and_a_verdict_on_every_model(finished: Finished) -> None:
    summary = finished.summary
    assert summary["trades"] >= 1000
    basic = {"signal_quality", "profitability", "signal_strength"}
    forest = basic | {"pnl_prediction", "confidence_score", "optimal_exit_timing"}
    judged = {(verdict["family"], verdict["target"]) for verdict in summary["verdicts"]}
    assert judged == {("linear", target) for target in basic} | {("forest", target) for target in forest}
    assert [item["state"] for item in summary["ladder"]] == ["trained", "trained", "not yet", "not yet", "not yet"]
    assert f"LSTM: {summary['trades']:,} of 5,000 clean trades" in summary["ladder"][3]["sentence"]
    assert summary["failures"] == {}
    for verdict in summary["verdicts"]:
        assert verdict["candidate"] == all(gate["passed"] for gate in verdict["gates"])
        assert all(gate["reason"] and gate["limit"] for gate in verdict["gates"])
    page = Path(summary["report"]).read_text()
    assert summary["headline"] in page
    assert "synthetic market" in page


def test_a_candidate_is_in_the_registry_and_a_refused_model_is_only_a_run(finished: Finished) -> None:
    verdicts = {(verdict["family"], verdict["target"]): verdict["candidate"] for verdict in finished.summary["verdicts"]}
    assert len(finished.summary["registered"]) == len(verdicts)
    for entry in finished.summary["registered"]:
        candidate = verdicts[entry["family"], entry["target"]]
        assert (entry["version"] is not None) == candidate
        assert bool(entry["reasons"]) != candidate
        folder = finished.data / "mlflow" / "artifacts" / entry["run_id"] / "artifacts"
        assert {"MLmodel", "model.onnx", "card.json", "importance.json"} <= {path.name for path in folder.iterdir()}
        assert (folder / "plots" / "importance.png").read_bytes().startswith(b"\x89PNG")


def test_prefect_kept_the_run_with_its_tasks_and_artifacts(finished: Finished) -> None:
    with sqlite3.connect(finished.data / "prefect" / "prefect.db") as database:
        states = dict(database.execute("select name, state_type from task_run").fetchall())
        artifacts = {key for (key,) in database.execute("select key from artifact").fetchall()}
        flows = database.execute("select name, state_type from flow_run").fetchall()
    stages = ("ingest", "validate", "features", "dataset", "gate", "register", "drift", "report")
    assert states == dict.fromkeys((*stages, *(f"train-{family}" for family in FAMILIES)), "COMPLETED")
    assert {"verdict", "gates", "report"} <= artifacts
    assert [state for _, state in flows] == ["COMPLETED"]


def test_running_again_on_the_same_data_changes_nothing(finished: Finished, run_small: Callable[[Path], Finished]) -> None:
    names = ["dataset/card.json", "gates.json", "quality.json"]
    names += [f"training/{family}/metrics.json" for family in FAMILIES]
    names += [str(path.relative_to(finished.data)) for path in finished.data.glob("training/*/models/*/*")]
    assert len([name for name in names if name.endswith("model.onnx")]) == 9
    before = {name: (finished.data / name).read_bytes() for name in names}
    tables = {name: (finished.data / name).read_bytes() for name in ("trades/signals.parquet", "trades/outcomes.parquet")}
    again = run_small(finished.data)
    assert again.summary["run_id"] == finished.summary["run_id"]
    assert {name: (finished.data / name).read_bytes() for name in names} == before
    assert {name: (finished.data / name).read_bytes() for name in tables} == tables
    assert all(entry["existing"] for entry in again.summary["registered"])
    assert len(list((finished.data / "reports").glob("*/index.html"))) == 1


def test_interrupted_in_the_middle_the_next_run_continues_cleanly(tmp_path: Path, finished: Finished) -> None:
    data = tmp_path / "data"
    command = [str(Path(sys.executable).with_name("amiral")), *small("run", "--synthetic", "--data", str(data))]
    # As a terminal does it: a group of its own, and the signal to every process in it, Prefect's server too.
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Training"):
                os.killpg(process.pid, signal.SIGINT)
                break
        process.stderr.read()
    assert process.returncode == 130
    assert not list(data.rglob("*.tmp"))
    result = amiral(*small("run", "--json", "--synthetic", "--data", str(data)))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["dataset_hash"] == finished.summary["dataset_hash"]


def dvc_project(folder: Path) -> Path:
    """A new repository with the small settings, the stages and nothing else."""
    project = Path(__file__).parents[2]
    params = yaml.safe_load((project / "params.yaml").read_text())
    for setting in SMALL:
        dotted, value = setting.split("=")
        section, key = dotted.split(".")
        params[section][key] = yaml.safe_load(value)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for name in ("dvc.yaml", ".dvcignore"):
        (folder / name).write_text((project / name).read_text())
    for name in ("pipelines", "models"):
        (folder / name).symlink_to(project / name)
    for kept in project.glob("data/raw/.gitkeep"), project.glob("data/tuning/*/.gitkeep"):
        for path in kept:
            (folder / path.relative_to(project)).parent.mkdir(parents=True)
            (folder / path.relative_to(project)).touch()
    (folder / ".gitignore").write_text("/data/*\n!/data/raw\n!/data/tuning\n")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True, capture_output=True)
    dvc(folder, "init", "-q", "-f")
    return folder


def dvc(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "failed to load" not in result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after `dvc repro`, committed."""
    project = dvc_project(tmp_path_factory.mktemp("dvc"))
    dvc(project, "repro", "-q")
    for command in (["add", "-A"], ["-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=project, check=True, capture_output=True)
    return project


def test_dvc_gives_the_same_dataset_and_the_same_metrics(reproduced: Path, finished: Finished) -> None:
    card = json.loads((reproduced / "data" / "dataset" / "card.json").read_text())
    assert card["content_hash"] == finished.summary["dataset_hash"]
    for family in FAMILIES:
        name = f"training/{family}/metrics.json"
        assert json.loads((reproduced / "data" / name).read_text()) == finished.read(name)
    for model in finished.data.glob("training/*/models/*/model.onnx"):
        assert (reproduced / "data" / model.relative_to(finished.data)).read_bytes() == model.read_bytes()
    assert json.loads((reproduced / "data" / "gates.json").read_text()) == finished.read("gates.json")


def test_dvc_compares_an_experiment_with_the_commit_before_and_draws_it(reproduced: Path) -> None:
    # The experiment writes params.yaml anew, in DVC's own style, and the stages have to read that.
    dvc(reproduced, "exp", "run", "-q", "-S", "train.forest.max_depth=3")
    changes = json.loads(dvc(reproduced, "metrics", "diff", "--json"))
    assert set(changes) == {"data/training/forest/metrics.json"}
    drawn = json.loads(dvc(reproduced, "plots", "show", "--json"))
    assert any("Scores by fold" in name for name in drawn["data"])


def test_too_few_trades_train_nothing_and_leave_nothing_of_the_run_before(tmp_path: Path) -> None:
    data = tmp_path / "data"
    before = amiral(*small("replay", "--json", "--data", str(data)))
    assert before.returncode == 0, before.stderr
    assert amiral(*small("train", "--json", "--data", str(data))).returncode == 0
    assert len(list((data / "training" / "linear" / "models").iterdir())) == 3
    result = amiral("run", "--json", "--synthetic", "--data", str(data), "--set", "synthetic.sessions=12")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["verdicts"] == []
    assert summary["registered"] == []
    assert f"Linear: {summary['trades']} of 500 clean trades" in json.dumps(summary["ladder"])
    assert list(data.glob("training/*/models/*")) == []
