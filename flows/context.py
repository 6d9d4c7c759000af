"""What every stage is given, and how one stage reads what another left."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.progress import Reporter
from flows.version import code_version
from pipelines.errors import InputError
from pipelines.layout import DataLayout
from pipelines.settings import Settings

if TYPE_CHECKING:
    from models.artifact import Package
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
    if not path.exists():
        raise InputError(f"{path} does not exist", remedy="run the stages before this one: `amiral run`, or `dvc repro`")
    with damage(path):
        return json.loads(path.read_text(encoding="utf-8"))


def read_trainings(context: Context) -> list[dict[str, Any]]:
    """Read what the train stage left of every family that the settings name, simplest first.

    Raises
    ------
    InputError
        A family has not been trained, or on another dataset than the present one.
    """
    wanted = read_json(context.layout.dataset / "card.json")["content_hash"]
    trainings = [read_json(context.layout.training(family)) for family in context.settings.train.families]
    for family, training in zip(context.settings.train.families, trainings, strict=True):
        with damage(context.layout.training(family)):
            found, title = str(training["dataset_hash"]), training["title"]
            if not {"family", "state", "reason", "failures", "models", "tuned"} <= training.keys():
                raise KeyError("models")
        if found != wanted:
            raise InputError(
                f"{title} was trained on dataset {found[:12]}",
                limit=f"the present dataset {wanted[:12]}",
                remedy=f"run `amiral stage train --family {family}`",
            )
    return trainings


def read_evaluation(context: Context, family: str, target: str) -> Evaluation:
    """Read the evaluation that the train stage left."""
    from models.results import Evaluation

    path = context.layout.models(family) / target / EVALUATION_FILE
    with damage(path):
        return Evaluation.from_json(path.read_text(encoding="utf-8"))


def read_importance(context: Context, family: str, target: str) -> Importance:
    """Read the explanation that the train stage left."""
    from models.explain import Importance

    path = context.layout.models(family) / target / IMPORTANCE_FILE
    with damage(path):
        return Importance.from_json(path.read_text(encoding="utf-8"))


def read_package(context: Context, family: str, target: str, parity: float) -> Package:
    """Read the ONNX file and the card that the train stage left."""
    from models.artifact import Card, Package

    folder = context.layout.models(family) / target
    with damage(folder / MODEL_FILE):
        return Package((folder / MODEL_FILE).read_bytes(), Card.from_json((folder / CARD_FILE).read_bytes()), parity)


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


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn whatever a cut-off or foreign file raises into an error that names it."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        what = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        if isinstance(error, FileNotFoundError):
            what = "it is not there"
        raise InputError(
            f"{path} is damaged: {what}",
            limit="the file as its stage wrote it",
            remedy="run `amiral run` again, which writes it anew, or delete the file",
        ) from None
