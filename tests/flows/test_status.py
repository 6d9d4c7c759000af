"""`amiral status`: what lies there, of which run, and which file is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.status import read_status
from pipelines.errors import InputError
from pipelines.layout import DataLayout
from pipelines.storage import write_json, write_text

HASH, OLD = "ab" * 32, "cd" * 32


def gates(score: float | None) -> list[dict[str, Any]]:
    return [
        {"name": "test_score", "passed": False, "value": score, "limit": ">= 0.55", "reason": "too low"},
        {"name": "ladder", "passed": True, "value": 0.1, "limit": ">= 0.05", "reason": "better"},
    ]


def training(family: str, state: str = "trained", dataset: str = HASH, **values: Any) -> dict[str, Any]:
    return {
        "family": family,
        "title": family,
        "state": state,
        "reason": "",
        "dataset_hash": dataset,
        "failures": {},
        "models": {"profitability": {"test_score": 0.52}},
        "tuned": {},
        **values,
    }


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    """Two trained families, one that waits, verdicts and registrations of both trained ones."""
    layout = DataLayout(tmp_path)
    write_json(layout.ingest, {"source": "bars"})
    write_json(layout.quality, {"grade": "good"})
    write_json(layout.dataset / "card.json", {"content_hash": HASH})
    write_json(layout.training("linear"), training("linear"))
    write_json(layout.training("forest"), training("forest", failures={"signal_quality": "one class only"}))
    write_json(layout.training("lstm"), training("lstm", "not yet", models={}, reason="LSTM: 3,912 of 5,000 clean trades"))
    families = ("linear", "forest")
    write_json(layout.gates, [{"family": name, "target": "profitability", "candidate": False, "gates": gates(0.52)} for name in families])
    registered = [{"family": name, "target": "profitability", "outcome": "kept", "reasons": ["too low"]} for name in families]
    write_json(layout.registered, registered)
    write_text(layout.reports / f"{HASH[:10]}-1-2" / "index.html", "")
    return layout


def test_one_finished_run_is_told_by_family_and_target(layout: DataLayout) -> None:
    status = read_status(layout)
    assert status["families"] == {
        "linear": "trained: 1 model",
        "forest": "partly failed: 1 model; signal_quality failed: one class only",
        "lstm": "not yet: LSTM: 3,912 of 5,000 clean trades",
    }
    assert status["verdicts"] == dict.fromkeys(("linear/profitability", "forest/profitability"), "refused: test_score")
    assert status["registered"] == dict.fromkeys(("linear/profitability", "forest/profitability"), "kept")
    assert (status["dataset"], status["report is of"]) == (HASH, "the present dataset")


def test_an_empty_folder_has_nothing(tmp_path: Path) -> None:
    status = read_status(DataLayout(tmp_path))
    assert status["trades"] is None
    assert status["dataset"] is None
    assert status["families"] == status["verdicts"] == {}


def test_a_family_of_another_dataset_is_said_to_be_of_an_earlier_run_and_so_is_all_that_follows(layout: DataLayout) -> None:
    write_json(layout.training("forest"), training("forest", dataset=OLD))
    status = read_status(layout)
    assert status["families"]["forest"].endswith("(of an earlier run)")
    assert status["verdicts"]["forest/profitability"].endswith("(of an earlier run)")
    assert status["registered"]["forest/profitability"].endswith("(of an earlier run)")
    assert not any(
        "earlier" in status[part]["linear" if part == "families" else "linear/profitability"] for part in ("families", "verdicts")
    )


def test_a_verdict_on_another_score_or_on_no_model_is_of_an_earlier_run(layout: DataLayout) -> None:
    write_json(layout.training("linear"), training("linear", models={"profitability": {"test_score": 0.61}}))
    write_json(layout.training("forest"), training("forest", models={}))
    status = read_status(layout)
    assert all(text.endswith("(of an earlier run)") for text in (*status["verdicts"].values(), *status["registered"].values()))


def test_a_registration_with_other_reasons_is_of_an_earlier_run(layout: DataLayout) -> None:
    write_json(layout.registered, [{"family": "linear", "target": "profitability", "outcome": "version 3", "reasons": []}])
    assert read_status(layout)["registered"] == {"linear/profitability": "version 3 (of an earlier run)"}


def test_a_score_that_does_not_exist_is_the_same_as_itself(layout: DataLayout) -> None:
    write_json(layout.training("linear"), training("linear", models={"profitability": {"test_score": float("nan")}}))
    write_json(layout.gates, [{"family": "linear", "target": "profitability", "candidate": False, "gates": gates(float("nan"))}])
    assert read_status(layout)["verdicts"] == {"linear/profitability": "refused: test_score"}


@pytest.mark.parametrize(
    "content",
    ['{"half": ', "[1, 2]", "3", "null", "{}", "\x00"],
)
@pytest.mark.parametrize(
    "name", ["ingest.json", "quality.json", "dataset/card.json", "training/forest/metrics.json", "gates.json", "registered.json"]
)
def test_a_damaged_file_is_named_with_a_remedy(layout: DataLayout, name: str, content: str) -> None:
    path = layout.root / name
    path.write_text(content)
    with pytest.raises(InputError, match="damaged") as error:
        read_status(layout)
    assert str(path) in str(error.value)
    assert "remedy: run `amiral run`" in str(error.value)


def test_a_damaged_table_of_trades_is_named(layout: DataLayout) -> None:
    path = layout.trades / "outcomes.parquet"
    path.parent.mkdir()
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InputError, match="damaged"):
        read_status(layout)
