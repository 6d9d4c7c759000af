"""Gathers what the stages left into the page of one run."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from flows.context import Context, read_evaluation, read_json, read_verdicts, run_id
from flows.report.content import LabelBalance, ModelSection, ReportContent, headline
from flows.report.page import write_report
from flows.summary import RunSummary
from flows.version import code_version
from pipelines import dataset as datasets
from pipelines.dataset import Dataset
from pipelines.drift.evidently_report import DriftSummary, FeatureDrift, LeftOut
from pipelines.settings import Settings
from pipelines.storage import write_bytes

DRIFT_PAGE = "drift.html"

_MEANINGS = {
    "signal_quality": "+1 R was reached before -1 R",
    "profitability": "net PnL above zero, after commission",
    "strong_signal": "the trade made at least the R that counts as strong",
}


def compose(context: Context) -> RunSummary:
    """Write the page, its JSON and Evidently's page into the folder of this run."""
    layout = context.layout
    ingested, training = read_json(layout.ingest), read_json(layout.training)
    data = datasets.read(layout.dataset)
    name = run_id(context, data.content_hash)
    folder = layout.reports / name
    drift = _drift(read_json(layout.drift / "drift.json"))
    drift_page = layout.drift / "index.html"
    has_page = drift is not None and drift_page.exists()
    if has_page:
        write_bytes(folder / DRIFT_PAGE, drift_page.read_bytes())
    models = _models(context, data)
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
        not_trained=training["reason"] or None,
        models=models,
        test_times=data.start[models[0].evaluation.test_rows].astype("datetime64[ns]") if models else None,
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
        verdicts=tuple(read_json(layout.gates)),
        registered=tuple(read_json(layout.registered)),
        report=page,
    )


def _models(context: Context, data: Dataset) -> tuple[ModelSection, ...]:
    registered = {entry["target"]: entry for entry in read_json(context.layout.registered)}
    sections = []
    for verdict in read_verdicts(context):
        evaluation = read_evaluation(context, verdict.target)
        entry = registered[verdict.target]
        sections.append(
            ModelSection(
                evaluation=evaluation,
                verdict=verdict,
                outcome=entry["outcome"],
                version=None if entry["version"] is None else str(entry["version"]),
                labels=data.target(evaluation.judged_on)[evaluation.test_rows],
            )
        )
    return tuple(sections)


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
    return settings.gates.model_dump() | {"embargo hours": settings.splits.embargo_hours, "folds": settings.splits.folds}
