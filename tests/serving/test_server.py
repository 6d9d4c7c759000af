"""The real server: a process of its own, real HTTP, a model that appears while it runs."""

from __future__ import annotations

import json
import os
import signal as signals
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from pipelines.contracts.signal import Signal
from pipelines.features.twelve import compute_one
from pipelines.layout import DataLayout
from pipelines.settings import load_settings
from tests.factories import signal_dict
from tests.serving.models_at_hand import register

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = load_settings()
PATIENCE_S = 120.0


class Server:
    """A running service with its data folder."""

    def __init__(self, data: Path) -> None:
        self.layout = DataLayout(data)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "serving", "--data", str(data), "--port", str(self.port), "--set", "serving.refresh_s=0.2"]
        self.log = data / "server.log"
        with self.log.open("w") as stream:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream, env={**os.environ, "PYTHONPATH": str(ROOT)})
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30.0)

    def score(self, **request: Any) -> httpx.Response:
        return self.client.post("/v1/score", **request)

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if done():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not within {PATIENCE_S} s:\n{self.log.read_text()}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("served"))
    try:
        running.until(lambda: running.client.get("/readyz").status_code == 200)
        yield running
    finally:
        running.client.close()
        running.process.send_signal(signals.SIGINT)
        try:
            running.process.wait(30)
        except subprocess.TimeoutExpired:
            running.process.kill()
            raise


def a_signal(seed: int = 1, **changes: Any) -> dict[str, Any]:
    return signal_dict(np.random.default_rng(seed)) | changes


def test_without_a_model_the_signal_passes_unchanged(server: Server) -> None:
    sent = a_signal()
    got = server.score(json=sent)
    assert got.status_code == 200
    assert got.json() == {
        "score": None,
        "enhanced_confidence": sent["battle_navale"]["confidence"],
        "decision": "neutral",
        "size_multiplier": 1.0,
        "model_version": None,
        "stage": None,
        "degraded": True,
        "reason": "no candidate model in the registry",
    }


def test_a_misfit_is_named_with_path_value_and_limit(server: Server) -> None:
    sent = a_signal()
    sent["market_state"] |= {"close": -1.0, "moon": 3}
    del sent["symbol"]
    got = server.score(json=sent)
    assert got.status_code == 422
    problems = {item["path"]: item for item in got.json()["problems"]}
    assert problems["market_state.close"] == {"path": "market_state.close", "value": "-1.0", "limit": "Input should be greater than 0"}
    assert problems["market_state.moon"]["limit"] == "Extra inputs are not permitted"
    assert problems["symbol"]["value"] == "absent"
    assert got.json()["problem_count"] == 3


def test_an_outcome_field_in_a_signal_is_refused(server: Server) -> None:
    got = server.score(json=a_signal(net_pnl=500.0))
    assert got.status_code == 422
    assert got.json()["problems"][0]["path"] == "net_pnl"


def test_a_newer_schema_is_refused_with_a_remedy(server: Server) -> None:
    got = server.score(json=a_signal(schema_version="9.0.0"))
    assert got.status_code == 422
    assert "newer than" in got.json()["problems"][0]["limit"]


GARBAGE = {
    "empty": b"",
    "half": b'{"schema_version": "1.0.0", "trade',
    "null": b"null",
    "list": b"[1, 2]",
    "bytes": b"\xff\xfe\x00\x01",
    "deep list": b"[" * 60_000,
    "deep map": b'{"a":' * 10_000,
    "nan": b"NaN",
    "pickle": b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
    "surrogate": b'{"trade_id": "\\ud800"}',
    "long number": b'{"trade_id":' + b"1" * 60_000 + b"}",
    "infinity": json.dumps(a_signal()).replace('"vwap": ', '"vwap": 1e999, "x": ').encode(),
    "first year": json.dumps(a_signal(decision_time="0001-01-01T00:00:00+14:00")).encode(),
}


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize("kind", ["application/json", "application/vnd.bentoml+pickle", "multipart/form-data"])
def test_garbage_is_refused_as_the_senders_fault(server: Server, name: str, kind: str) -> None:
    got = server.score(content=GARBAGE[name], headers={"content-type": kind})
    assert got.status_code in (400, 422)
    assert got.json()["error"]


def test_long_values_and_many_problems_are_cut_short(server: Server) -> None:
    sent = a_signal(trade_id="x" * 20_000) | {f"unknown_{k}": k for k in range(500)}
    got = server.score(json=sent)
    assert got.json()["problem_count"] == 501
    assert len(got.json()["problems"]) == SETTINGS.serving.max_problems
    assert len(got.content) < 10_000


@pytest.mark.parametrize("size", [SETTINGS.serving.max_body_bytes + 1, 5_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413(server: Server, size: int, chunked: bool) -> None:
    body = b" " * size
    got = server.score(content=iter([body[k : k + 4096] for k in range(0, size, 4096)]) if chunked else body)
    assert got.status_code == 413
    assert str(SETTINGS.serving.max_body_bytes) in got.json()["error"]


def test_a_body_of_the_limit_is_read(server: Server) -> None:
    body = json.dumps(a_signal()).encode()
    got = server.score(content=body + b" " * (SETTINGS.serving.max_body_bytes - len(body)))
    assert got.status_code == 200


def test_a_half_sent_request_does_not_hurt_the_next(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n{")
    assert server.score(json=a_signal()).status_code == 200


def test_other_methods_and_paths_do_not_exist(server: Server) -> None:
    assert server.client.get("/v1/score").status_code == 405
    assert server.client.post("/v1/scores").status_code == 404


def test_a_new_candidate_scores_without_a_restart(server: Server) -> None:
    """Keep last: from here on the server has a model."""
    made = register(server.layout.mlflow, 1, SETTINGS)
    asked = a_signal(seed=4)
    server.until(lambda: not server.score(json=asked).json()["degraded"])
    got = server.score(json=asked).json()

    from models.artifact import OnnxScorer

    row = compute_one(Signal.model_validate(asked), SETTINGS.features)
    score = float(OnnxScorer(made.package.onnx, made.package.card).score(row[np.newaxis])[0])
    own = asked["battle_navale"]["confidence"]
    assert got == {
        "score": score,
        "enhanced_confidence": own,
        "decision": "shadow",
        "size_multiplier": 1.0,
        "model_version": "amiral-profitability/1",
        "stage": "candidate",
        "degraded": False,
        "reason": "",
    }

    # The same request gives the same bytes, one after the other and all at once.
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: httpx.post(f"http://127.0.0.1:{server.port}/v1/score", json=asked, timeout=30).content, range(16))
        )
    assert set(answers) == {server.score(json=asked).content}

    # A registry that vanishes leaves the last good model in force.
    away = server.layout.root / "away"
    server.layout.mlflow.rename(away)
    server.until(lambda: "cannot be read" in server.log.read_text())
    assert server.score(json=asked).json() == got
    away.rename(server.layout.mlflow)

    # A missing required input falls back to the strategy, also with a model.
    asked["market_state"]["atr_14"] = None
    answer = server.score(json=asked).json()
    assert answer["degraded"]
    assert answer["enhanced_confidence"] == own
    assert answer["model_version"] == "amiral-profitability/1"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serving", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def test_a_taken_port_is_said_in_words(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        got = run("--data", str(tmp_path), "--port", str(taken.getsockname()[1]))
    assert got.returncode == 1
    assert "cannot listen on 127.0.0.1" in got.stderr
    assert "--port" in got.stderr
    assert "Traceback" not in got.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("serving.host=localhost", "an IP address such as 127.0.0.1"),
        ("serving.port=0", "serving.port = 0"),
        ("serving.required_features=[moon_phase]", "moon_phase"),
    ],
)
def test_impossible_settings_are_refused_before_the_start(tmp_path: Path, change: str, message: str) -> None:
    got = run("--data", str(tmp_path), "--set", change)
    assert got.returncode == 1
    assert message in got.stderr
