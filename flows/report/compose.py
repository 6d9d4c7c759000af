"""Gathers what the stages left into the page of one run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flows.context import Context, read_evaluation, read_importance, read_json, read_trainings, read_verdicts, run_id
from flows.report import overview
from flows.report.content import LabelBalance, ModelSection, ReportContent, headline
from flows.report.page import write_report
from flows.summary import RunSummary
from flows.version import code_version
from models.explain import Shift
from pipelines import dataset as datasets
from pipelines.dataset import Dataset
from pipelines.drift.evidently_report import DriftSummary, FeatureDrift, LeftOut
from pipelines.errors import InputError
from pipelines.settings import Settings
from pipelines.storage import plain, write_bytes

DRIFT_PAGE = "drift.html"

_MEANINGS = {
    "signal_quality": "+1 R was reached before -1 R",
    "profitability": "net PnL above zero, after commission",
    "strong_signal": "the trade made at least the R that counts as strong",
}


def compose(context: Context) -> RunSummary:
    """Write the page, its JSON and Evidently's page into the folder of this run."""
    layout = context.layout
    ingested, trainings = read_json(layout.ingest), read_trainings(context)
    data = datasets.read(layout.dataset)
    name = run_id(context, data.content_hash)
    folder = layout.reports / name
    drift = _drift(read_json(layout.drift / "drift.json"))
    drift_page = layout.drift / "index.html"
    has_page = drift is not None and drift_page.exists()
    if has_page:
        write_bytes(folder / DRIFT_PAGE, drift_page.read_bytes())
    models = _models(context, data, {training["family"]: training for training in trainings})
    content = ReportContent(
        run_id=name,
        created=context.now,
        git_commit=code_version(),
        source=ingested["source"],
        source_notes=tuple(ingested["notes"]),
        simulated="simulated" in data.card["sources"],
        replay=ingested["replay"],
        ingest=ingested["ingest"],
        quality=read_json(layout.quality),
        dataset=data.card,
        labels=_labels(data),
        ladder=overview.rungs(trainings, [f"{model.verdict.family}/{model.verdict.target}" for model in models if model.verdict.candidate]),
        failures=overview.failures(trainings),
        models=models,
        drift=drift,
        drift_page=DRIFT_PAGE if has_page else None,
        thresholds=_thresholds(context.settings),
    )
    page = write_report(content, folder, context.settings.report)
    head = headline(content)
    return RunSummary(
        run_id=name,
        source=ingested["source"],
        headline=head.title,
        details=head.details,
        trades=len(data),
        grade=str((content.quality or {})["grade"]),
        dataset_hash=data.content_hash,
        ladder=tuple(dataclasses.asdict(row) for row in content.ladder),
        failures={row.name: row.reason for row in content.failures},
        models=tuple(plain(row.as_dict()) for group in overview.target_groups(models) for row in group.rows),
        verdicts=tuple(read_json(layout.gates)),
        registered=tuple(read_json(layout.registered)),
        report=page,
    )


def _models(context: Context, data: Dataset, trainings: Mapping[str, Mapping[str, Any]]) -> tuple[ModelSection, ...]:
    layout = context.layout
    registered = {(entry["family"], entry["target"]): entry for entry in read_json(layout.registered)}
    verdicts = {(verdict.family, verdict.target): verdict for verdict in read_verdicts(context)}
    trained = [(family, target) for family, training in trainings.items() for target in training["models"]]
    reasons = {name: tuple(entry["reasons"]) for name, entry in registered.items()}
    _refuse(layout.gates, "gate", [name for name in trained if name not in verdicts])
    _refuse(layout.registered, "register", [name for name in trained if name not in reasons or reasons[name] != verdicts[name].reasons])
    times = data.start.astype("datetime64[ns]")
    sections = []
    for family, target in trained:
        evaluation, entry = read_evaluation(context, family, target), registered[family, target]
        outcome = data.target(evaluation.label if evaluation.calibration else evaluation.judged_on)
        sections.append(
            ModelSection(
                evaluation=evaluation,
                verdict=verdicts[family, target],
                outcome=entry["outcome"],
                title=trainings[family]["title"],
                version=_number(entry["version"]),
                labels=outcome[evaluation.test_rows],
                times=times[evaluation.test_rows],
                importance=read_importance(context, family, target),
                shifts=tuple(Shift(**shift) for shift in entry["shifts"]),
                previous=_number(entry["previous"]),
            )
        )
    return tuple(sections)


def _refuse(path: Path, stage: str, wrong: Sequence[tuple[str, str]]) -> None:
    """Refuse to show a model with the verdict or the version of another run."""
    if wrong:
        raise InputError(
            f"{path.name} is of another run: it does not know {', '.join('/'.join(name) for name in wrong)} as trained and judged now",
            limit="an entry for every model of this run",
            remedy=f"run `amiral stage {stage}`, then the stages after it",
        )


def _number(version: int | None) -> str | None:
    return None if version is None else str(version)


def _labels(data: Dataset) -> tuple[LabelBalance, ...]:
    return tuple(LabelBalance(target, meaning, int(np.sum(data.target(target) == 1.0)), len(data)) for target, meaning in _MEANINGS.items())


def _drift(content: dict[str, Any]) -> DriftSummary | None:
    if not content["compared"]:
        return None
    values = {field.name: content[field.name] for field in dataclasses.fields(DriftSummary)}
    values["features"] = tuple(FeatureDrift(**item) for item in content["features"])
    values["left_out"] = tuple(LeftOut(**item) for item in content["left_out"])
    return DriftSummary(**values)


def _thresholds(settings: Settings) -> dict[str, Any]:
    ladder = {f"ladder {name}": value for name, value in settings.ladder.model_dump().items()}
    return settings.gates.model_dump() | ladder | {"embargo hours": settings.splits.embargo_hours, "folds": settings.splits.folds}
