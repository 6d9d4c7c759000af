"""The terminal: one screen, whatever the number of models and the length of names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flows.console import show_summary, show_verdicts
from flows.report.overview import target_groups
from flows.summary import RunSummary
from pipelines.storage import plain
from tests.flows.made_up import WAITING, all_models

RUNGS = (
    {"family": "linear", "title": "Linear", "state": "trained", "sentence": "3 models, no candidate"},
    {"family": "forest", "title": "Random forest", "state": "trained", "sentence": "6 models, 1 candidate"},
    {
        "family": "xgboost",
        "title": "XGBoost",
        "state": "partly failed",
        "sentence": "5 models; profitability failed: " + "one class only, " * 40,
    },
    {"family": "lstm", "title": "LSTM", "state": "not yet", "sentence": f"{WAITING}; expected\nmore"},
    {"family": "ensemble", "title": "Ensemble filter", "state": "failed", "sentence": "no member [red]was[/red] fitted"},
)


def summary(**changes: Any) -> RunSummary:
    """A run with twenty models."""
    rows = tuple(plain(row.as_dict()) for group in target_groups(all_models()) for row in group.rows)
    values: dict[str, Any] = {
        "run_id": "r",
        "source": "bars",
        "headline": "1 of 20 models passed every gate: Random forest profitability is a candidate.",
        "details": ("a detail",),
        "trades": 9274,
        "grade": "good",
        "dataset_hash": "9f" * 32,
        "ladder": RUNGS,
        "failures": {"xgboost/profitability": "one class only", "ensemble": "no member was fitted"},
        "models": rows,
        "verdicts": (),
        "registered": (),
        "report": Path("/data/reports/r/index.html"),
    }
    return RunSummary(**values | changes)


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_twenty_models_fit_on_one_screen_of_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    show_summary(summary())
    lines = printed(capsys)
    assert len(lines) <= 40
    assert all(len(line) <= 80 for line in lines[1:-1])
    text = "\n".join(lines)
    for said in ("Random forest profitability is a candidate", WAITING, "candidate, version 3", "refused", "/data/reports/r/index.html"):
        assert said in text
    assert sum("partly failed" in line for line in lines) == 1
    assert sum(bool(re.search(r"-?\d\.\d{3} ±\d\.\d{3}( \*)? +-?\d\.\d{3}  (refused|candidate)", line)) for line in lines) == 20


def test_a_name_in_brackets_is_text_and_not_colour(capsys: pytest.CaptureFixture[str]) -> None:
    show_summary(summary(headline="[bold]x[/bold]"))
    text = "\n".join(printed(capsys))
    assert "no member [red]was[/red] fitted" in text
    assert "[bold]x[/bold]" in text


def test_a_run_without_models_says_that_nothing_changes(capsys: pytest.CaptureFixture[str]) -> None:
    show_summary(summary(headline="Nothing was trained.", models=(), ladder=RUNGS[3:4]))
    text = "\n".join(printed(capsys))
    assert WAITING in text
    assert "The bot trades on with its own rules, unchanged." in text
    assert "out of fold" not in text


def test_a_score_that_does_not_exist_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    row = summary().models[0] | {"out_of_fold": None, "deviation": None, "test_score": None, "best": False}
    show_summary(summary(models=(row,)))
    assert "nan" not in "\n".join(printed(capsys)).lower()


def test_json_holds_the_ladder_and_the_failures() -> None:
    content = json.loads(json.dumps(summary().to_dict(), allow_nan=False))
    assert [rung["state"] for rung in content["ladder"]] == ["trained", "trained", "partly failed", "not yet", "failed"]
    assert content["failures"] == {"xgboost/profitability": "one class only", "ensemble": "no member was fitted"}
    assert content["models"][0]["family"] == "linear"


def trained(count: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Trainings and verdicts as the stages leave them, of the first `count` models."""
    models = all_models()[:count]
    trainings: dict[str, dict[str, Any]] = {}
    for model in models:
        made = model.evaluation
        training = {
            "family": made.family,
            "title": model.title,
            "state": "trained",
            "reason": "",
            "failures": {},
            "models": {},
            "tuned": {},
        }
        found = trainings.setdefault(made.family, training)
        found["models"][made.target] = {"test_score": made.test_score, "fold_scores": [*made.fold_scores[:4], None]}
    waiting = {"family": "lstm", "title": "LSTM", "state": "not yet", "reason": WAITING, "failures": {}, "models": {}, "tuned": {}}
    verdicts = [
        {
            "target": model.verdict.target,
            "family": model.verdict.family,
            "candidate": model.verdict.candidate,
            "gates": [vars(gate) for gate in model.verdict.gates],
        }
        for model in models
    ]
    return [*trainings.values(), waiting], verdicts


def test_train_prints_every_gate_of_few_models_and_of_many_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    show_verdicts(*trained(3))
    few = "\n".join(printed(capsys))
    assert few.count("enough_trades") == 3
    assert WAITING in few
    show_verdicts(*trained(9))
    many = printed(capsys)
    assert "enough_trades" not in "\n".join(many)
    assert sum("refused" in line or "candidate" in line for line in many) == 9
    show_verdicts(*trained(9), verbose=True)
    assert "\n".join(printed(capsys)).count("enough_trades") == 9


def test_train_names_a_model_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    trainings, verdicts = trained(3)
    trainings[0]["failures"] = {"pnl_prediction": "one class only"}
    show_verdicts(trainings, verdicts)
    lines = printed(capsys)
    assert any("PnL prediction" in line and "failed" in line and "one class only" in line for line in lines)
