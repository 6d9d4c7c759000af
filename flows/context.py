"""What every stage is given, and how one stage reads what another left."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.progress import Reporter
from flows.version import code_version
from pipelines.errors import InputError
from pipelines.layout import DataLayout
from pipelines.settings import Settings

if TYPE_CHECKING:
    from models.explain import Importance
    from models.results import Evaluation, Verdict

SIGNALS_FILE, OUTCOMES_FILE = "signals.parquet", "outcomes.parquet"
EVALUATION_FILE, MODEL_FILE, CARD_FILE, IMPORTANCE_FILE = "evaluation.json", "model.onnx", "card.json", "importance.json"


@dataclass(frozen=True)
class Context:
    """What every stage is given: settings, places, the time that a report may show, and someone to tell."""

    settings: Settings
    layout: DataLayout
    now: dt.datetime
    reporter: Reporter


def read_json(path: Path) -> Any:
    """Read the JSON file of an earlier stage.

    Raises
    ------
    InputError
        That stage has not run.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", remedy="run the stages before this one: `amiral run`, or `dvc repro`") from None


def read_trainings(context: Context) -> list[dict[str, Any]]:
    """Read what the train stage left of every family that the settings name, simplest first.

    Raises
    ------
    InputError
        A family has not been trained, or on another dataset than the present one.
    """
    wanted = read_json(context.layout.dataset / "card.json")["content_hash"]
    trainings = [read_json(context.layout.training(family)) for family in context.settings.train.families]
    for training in trainings:
        if training["dataset_hash"] != wanted:
            raise InputError(
                f"{training['title']} was trained on dataset {training['dataset_hash'][:12]}",
                limit=f"the present dataset {wanted[:12]}",
                remedy=f"run `amiral stage train --family {training['family']}`",
            )
    return trainings


def read_evaluation(context: Context, family: str, target: str) -> Evaluation:
    """Read the evaluation that the train stage left."""
    from models.results import Evaluation

    return Evaluation.from_json((context.layout.models(family) / target / EVALUATION_FILE).read_text(encoding="utf-8"))


def read_importance(context: Context, family: str, target: str) -> Importance | None:
    """Read the explanation that the train stage left; None when there is none."""
    from models.explain import Importance

    path = context.layout.models(family) / target / IMPORTANCE_FILE
    return Importance.from_json(path.read_text(encoding="utf-8")) if path.exists() else None


def read_verdicts(context: Context) -> list[Verdict]:
    """Read what the gate stage found."""
    from models.results import GateResult, Verdict

    return [
        Verdict(item["target"], item["family"], tuple(GateResult(**gate) for gate in item["gates"]))
        for item in read_json(context.layout.gates)
    ]


def run_id(context: Context, dataset_hash: str) -> str:
    """Name a run by what made it: the same data, settings and code give the same name."""
    return f"{dataset_hash[:10]}-{context.settings.fingerprint()[:8]}-{code_version()[:7]}"
