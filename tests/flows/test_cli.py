from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.factories import outcome_dict, signal_dict
from tests.flows.conftest import Finished, amiral, small


def test_help_does_not_import_the_heavy_libraries() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from flows.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'numpy', 'pandas', 'mlflow', 'prefect', 'sklearn', 'evidently', 'numba', 'matplotlib', 'onnxruntime', 'bentoml'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["run", "--set", "replay.size=two"], 1, "replay.size = 'two'"),
        (["run", "--bars", "/nowhere"], 1, "/nowhere is not a folder"),
        (["run", "--params", "/nowhere.yaml"], 1, "does not exist"),
        (["run", "--set", "paths.min_free_mb=999999999"], 1, "MB free; expected at least 999999999 MB"),
        (["runn"], 2, "No such command"),
        (["ingest", "/nowhere"], 1, "/nowhere"),
        (["train"], 1, "run `amiral run`"),
    ],
)
def test_wrong_input_is_one_clear_line_and_a_status(tmp_path: Path, arguments: list[str], status: int, text: str) -> None:
    where = ["--data", str(tmp_path / "data")] if arguments[0] in ("ingest", "train") or "paths" in arguments[-1] else []
    result = amiral(*arguments, *where)
    assert result.returncode == status
    assert text in result.stderr
    assert "Traceback" not in result.stderr


def test_config_prints_what_set_changed() -> None:
    result = amiral("config", "--json", "--set", "linear.c=0.25")
    assert json.loads(result.stdout)["linear"]["c"] == 0.25


def test_replay_writes_jsonl_that_ingest_reads_and_train_uses(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    replayed = amiral(*small("replay", "--json", "--data", str(data), "--out", str(tmp_path / "jsonl")))
    assert replayed.returncode == 0, replayed.stderr
    trades = json.loads(replayed.stdout)["trades"]
    ingested = amiral("ingest", str(tmp_path / "jsonl"), "--json", "--data", str(other))
    assert ingested.returncode == 0, ingested.stderr
    assert json.loads(ingested.stdout)["store"]["trades"] == trades
    hashes = set()
    for folder in (data, other):
        trained = amiral(*small("train", "--json", "--data", str(folder)))
        assert trained.returncode == 0, trained.stderr
        assert len(json.loads(trained.stdout)["verdicts"]) == 3
        assert not (folder / "mlflow").exists()
        hashes.add(json.loads(trained.stdout)["training"]["dataset_hash"])
    assert len(hashes) == 1


def test_corrupted_data_stop_the_run_with_the_reason_and_their_own_status(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    raw = tmp_path / "data" / "raw"
    raw.mkdir(parents=True)
    with (raw / "bot.jsonl").open("wb") as stream:
        for number in range(30):
            signal = signal_dict(rng, number)
            outcome = outcome_dict(signal, rng)
            if number:  # a feature without any value would be a feed that is absent, and not count
                signal["market_state"] = {key: signal["market_state"][key] for key in ("open", "high", "low", "close", "volume")}
                signal["market_structure"] = {}
            stream.write(orjson.dumps({"signal": signal, "outcome": outcome}) + b"\n")
    result = amiral("run", "--data", str(tmp_path / "data"))
    assert result.returncode == 3
    assert "corrupted" in result.stderr
    assert (tmp_path / "data" / "quality.json").exists()


def test_status_tells_what_there_is(finished: Finished, tmp_path: Path) -> None:
    content = json.loads(amiral("status", "--json", "--data", str(finished.data)).stdout)
    assert content["trades"] == finished.summary["trades"]
    assert content["latest report"] == finished.summary["report"]
    empty = json.loads(amiral("status", "--json", "--data", str(tmp_path)).stdout)
    assert empty["trades"] is None
