from __future__ import annotations

import json
import subprocess
import sys
from html import escape
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
        "heavy |= {'torch', 'xgboost', 'shap', 'optuna', 'onnx'}\n"
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
        (["train", "--family", "boosting"], 1, "--family boosting; expected of linear, forest, xgboost, lstm, ensemble"),
        (["tune", "--family", "ensemble"], 1, "tune its members"),
        (["tune", "--target", "profit"], 1, "--target profit; expected of signal_quality, profitability"),
    ],
)
def test_wrong_input_is_one_clear_line_and_a_status(tmp_path: Path, arguments: list[str], status: int, text: str) -> None:
    where = ["--data", str(tmp_path / "data")] if arguments[0] in ("ingest", "train", "tune") or "paths" in arguments[-1] else []
    result = amiral(*arguments, *where)
    assert result.returncode == status
    assert text in result.stderr
    assert "Traceback" not in result.stderr


def test_config_prints_what_set_changed() -> None:
    result = amiral("config", "--json", "--set", "train.linear.c=0.25")
    assert json.loads(result.stdout)["train"]["linear"]["c"] == 0.25


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
        trained = amiral(*small("train", "--json", "--family", "linear", "--data", str(folder)))
        assert trained.returncode == 0, trained.stderr
        assert len(json.loads(trained.stdout)["verdicts"]) == 3
        assert not (folder / "mlflow").exists()
        hashes.add(json.loads(trained.stdout)["training"][0]["dataset_hash"])
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


def test_a_family_that_fails_stops_no_other_and_is_in_report_and_status(tmp_path: Path) -> None:
    data = tmp_path / "data"
    wanting_a_gpu = ["--set", "train.lstm.device=cuda", "--set", "ladder.min_trades.lstm=500"]
    result = amiral(*small("run", "--json", "--synthetic", "--data", str(data), *wanting_a_gpu), env={"CUDA_VISIBLE_DEVICES": ""})
    assert result.returncode == 1
    summary = json.loads(result.stdout)
    assert {verdict["family"] for verdict in summary["verdicts"]} == {"linear", "forest"}
    assert set(summary["failures"]) >= {"lstm/profitability", "lstm/signal_quality", "lstm/signal_strength"}
    assert "failed: lstm/profitability: " in result.stderr
    assert "cuda" in summary["failures"]["lstm/profitability"]
    assert "Traceback" not in result.stderr
    page = Path(summary["report"]).read_text()
    assert "LSTM" in page
    assert escape(summary["failures"]["lstm/profitability"].split(";")[0], quote=False) in page.replace("&#39;", "'")


def test_tuning_goes_on_where_it_stopped_and_training_takes_the_best(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert amiral(*small("replay", "--data", str(data))).returncode == 0
    assert amiral(*small("train", "--family", "linear", "--json", "--data", str(data))).returncode == 0
    tune = ["tune", "--family", "linear", "--target", "profitability", "--json", "--data", str(data)]
    first = json.loads(amiral(*small(*tune, "--set", "tuning.trials=3")).stdout)
    (second,) = json.loads(amiral(*small(*tune, "--set", "tuning.trials=6")).stdout)
    assert [first[0]["trials"], second["trials"]] == [3, 6]
    assert second["best_value"] >= second["default_value"]
    trials = json.loads((Path(second["folder"]) / "trials.json").read_text())
    assert len(trials if isinstance(trials, list) else trials["trials"]) == 6
    trained = amiral(*small("train", "--family", "linear", "--json", "--data", str(data)))
    assert trained.returncode == 0, trained.stderr
    evaluation = json.loads((data / "training" / "linear" / "models" / "profitability" / "evaluation.json").read_text())
    assert evaluation["parameters"]["c"] == second["parameters"]["c"]
