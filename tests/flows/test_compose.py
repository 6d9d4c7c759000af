"""From the files of the stages to the page and the summary, with made-up models."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.context import CARD_FILE, EVALUATION_FILE, IMPORTANCE_FILE, Context
from flows.progress import Reporter
from flows.report.compose import compose
from models.families import FAMILIES
from models.results import Evaluation
from pipelines import dataset as datasets
from pipelines.dataset import Dataset, content_hash
from pipelines.errors import InputError
from pipelines.layout import DataLayout
from pipelines.settings import Family, load_settings
from pipelines.storage import write_json, write_text
from tests.flows.made_up import WAITING, evaluation, importance, verdict
from tests.models.worlds import make_dataset

SETTINGS = load_settings(overrides=["train.families=[linear, forest, lstm]"])
COUNT, UNKNOWN = 1000, 7
TRAINED: tuple[tuple[Family, str], ...] = (
    ("linear", "profitability"),
    ("forest", "profitability"),
    ("forest", "optimal_exit_timing"),
    ("forest", "confidence_score"),
)


def with_unknown_exits() -> Dataset:
    """A dataset whose last trades do not say when their best price came."""
    made = make_dataset(COUNT, 1)
    frame = made.frame.copy()
    frame.loc[COUNT - UNKNOWN :, "target.exit_timing"] = np.nan
    return Dataset(frame, made.card | {"content_hash": content_hash(frame, made.windows)}, made.windows)


def of_rows(family: Family, target: str, data: Dataset) -> Evaluation:
    """A made-up evaluation whose test rows are the last 200 with a known label."""
    rows = np.arange(COUNT - 200, COUNT)
    rows = rows[np.isfinite(data.target(FAMILIES[family].model(target).label)[rows])]
    made, _ = evaluation(family, target, 4, 0.2, rows=len(rows))
    return dataclasses.replace(made, test_rows=rows)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """Everything that the report reads, as the stages leave it."""
    layout = DataLayout(tmp_path)
    data = with_unknown_exits()
    datasets.write(data, layout.dataset)
    trainings: dict[str, dict[str, Any]] = {
        name: {
            "family": name,
            "title": FAMILIES[name].title,
            "state": "trained",
            "reason": "",
            "dataset_hash": data.content_hash,
            "failures": {},
            "models": {},
            "tuned": {},
        }
        for name in SETTINGS.train.families
    }
    trainings["lstm"] |= {"state": "not yet", "reason": WAITING}
    trainings["forest"]["failures"] = {"signal_quality": "one class only"}
    gates, registered = [], []
    for family, target in TRAINED:
        made = of_rows(family, target, data)
        judged = verdict(
            family, target, passed=(family, target) == ("forest", "profitability"), rival=None if family == "linear" else f"linear/{target}"
        )
        trainings[family]["models"][target] = {"test_score": made.test_score}
        folder = layout.models(family) / target
        write_text(folder / EVALUATION_FILE, made.to_json())
        write_text(folder / CARD_FILE, "{}")
        write_text(folder / IMPORTANCE_FILE, importance(1, made.score_name).to_json())
        gates.append(dataclasses.asdict(judged) | {"candidate": judged.candidate})
        registered.append(
            {
                **{"family": family, "target": target, "model_name": "m", "run_id": "1", "existing": False},
                **{
                    "version": 3 if judged.candidate else None,
                    "reasons": list(judged.reasons),
                    "outcome": "version 3" if judged.candidate else "kept",
                },
                **{
                    "previous": 2,
                    "shifts": [{"input": "level_proximity", "current": 0.3, "previous": 0.1, "change": 2.0, "flagged": True, "note": "n"}],
                },
            }
        )
    for name, training in trainings.items():
        write_json(layout.root / "training" / name / "metrics.json", training)
    write_json(layout.gates, gates)
    write_json(layout.registered, registered)
    write_json(layout.ingest, {"source": "bars", "notes": [], "replay": None, "ingest": None})
    write_json(layout.quality, {"grade": "good"})
    write_json(layout.drift / "drift.json", {"compared": False, "reason": "too few"})
    return Context(SETTINGS, layout, dt.datetime(2026, 1, 1, tzinfo=dt.UTC), Reporter(quiet=True))


def test_the_files_of_the_stages_become_a_page_and_a_summary(context: Context) -> None:
    summary = compose(context)
    page = summary.report.read_text()
    assert (
        summary.headline
        == "1 of 4 models passed every gate: Random forest profitability is a candidate. Random forest signal quality failed."
    )
    assert [rung["state"] for rung in summary.ladder] == ["trained", "partly failed", "not yet"]
    assert summary.failures == {"forest/signal_quality": "one class only"}
    assert [(row["target"], row["family"]) for row in summary.models[:2]] == [("profitability", "linear"), ("profitability", "forest")]
    assert summary.models[1]["version"] == "3"
    assert "Importance that shifted against version 2" in page
    json.dumps(summary.to_dict(), allow_nan=False)


def test_a_probability_is_held_against_its_label_and_not_against_money(context: Context) -> None:
    page = compose(context).report.read_text()
    section = page[page.index('aria-label="Calibration of Random forest confidence score"') :]
    assert "observed share of wins" in section[: section.index("</figure>")]
    section = page[page.index('aria-label="Calibration of Random forest optimal exit timing"') :]
    assert "observed mean outcome" in section[: section.index("</figure>")]


def test_the_same_files_give_the_same_page(context: Context) -> None:
    first = compose(context).report.read_bytes()
    assert compose(context).report.read_bytes() == first


@pytest.mark.parametrize("name", ["importance.json", "evaluation.json"])
@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_lost_or_damaged_file_of_a_model_is_named(name: str, content: str | None, context: Context) -> None:
    path = context.layout.models("forest") / "profitability" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError) as error:
        compose(context)
    assert name in str(error.value) or "importance cannot be read" in str(error.value)


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"dataset_hash": 1}'])
def test_damaged_scores_of_a_family_are_named(content: str, context: Context) -> None:
    context.layout.training("forest").write_text(content)
    with pytest.raises(InputError, match=r"training/forest/metrics.json is damaged.*amiral run"):
        compose(context)


def test_verdicts_of_another_run_are_refused(context: Context) -> None:
    gates = json.loads(context.layout.gates.read_text())
    write_json(context.layout.gates, gates[1:])
    with pytest.raises(InputError, match="linear/profitability") as error:
        compose(context)
    assert "amiral stage gate" in str(error.value)


def test_registrations_of_another_run_are_refused(context: Context) -> None:
    registered = json.loads(context.layout.registered.read_text())
    registered[0]["reasons"] = []
    write_json(context.layout.registered, registered)
    with pytest.raises(InputError, match="is of another run") as error:
        compose(context)
    assert "registered.json" in str(error.value)
    assert "linear/profitability" in str(error.value)
    assert "amiral stage register" in str(error.value)


def test_a_run_in_which_nothing_was_trained_has_a_page(context: Context) -> None:
    for name in SETTINGS.train.families:
        path = context.layout.training(name)
        training = json.loads(path.read_text())
        write_json(path, training | {"state": "not yet", "reason": WAITING, "models": {}, "failures": {}})
    write_json(context.layout.gates, [])
    write_json(context.layout.registered, [])
    summary = compose(context)
    assert summary.headline == "Nothing was trained."
    assert summary.models == ()
    assert WAITING in summary.report.read_text()
