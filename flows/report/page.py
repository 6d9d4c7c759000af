"""The report of one run: a single HTML page that needs nothing else, and the same as JSON.

The page answers in this order: what was promoted or why nothing was, which family came how far, how
the models compare, whether any would have earned anything, each model in a section that unfolds, what
data it all rests on and how good they are, and what these numbers do and do not mean. It has no script
and loads nothing, so it can be mailed and kept.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from flows.report import text
from flows.report.content import ModelSection, ReportContent, RungRow, headline
from flows.report.figures import Figures, figures
from flows.report.overview import LadderStep, anchor, ladder_steps, target_groups
from pipelines.settings import Report
from pipelines.storage import plain, write_json, write_text

TEMPLATES = Path(__file__).parent / "templates"


def render(content: ReportContent, settings: Report) -> str:
    """Write the page as HTML; the same content gives the same bytes."""
    drawn: Figures = figures(content.models, settings)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            c=content,
            headline=headline(content),
            ladder=_ladder(content),
            groups=target_groups(content.models),
            anchors=[anchor(position) for position in range(len(content.models))],
            figures=drawn,
            facts=_fact_groups(content),
            checks=text.table((content.quality or {}).get("checks") or ()),
            thresholds=text.facts(content.thresholds),
        )
    )


def write_report(content: ReportContent, folder: Path, settings: Report) -> Path:
    """Write `index.html` and `report.json` into the run's folder; returns the page's path.

    Raises
    ------
    StorageError
        Disk full or read-only folder.
    """
    page = folder / "index.html"
    write_text(page, render(content, settings))
    write_json(folder / "report.json", as_json(content))
    return page


def as_json(content: ReportContent) -> dict[str, Any]:
    """The content as plain JSON values; predictions and per-trade arrays are left to their own files."""
    head = headline(content)
    return {
        "run_id": content.run_id,
        "created": content.created.isoformat(),
        "git_commit": content.git_commit,
        "source": content.source,
        "source_notes": list(content.source_notes),
        "simulated": content.simulated,
        "headline": {"tone": head.tone, "title": head.title, "details": list(head.details)},
        "not_trained": content.not_trained,
        "ladder": [asdict(row) for row in content.ladder],
        "failures": {row.name: row.reason for row in content.failures},
        **{name: plain(getattr(content, name)) for name in ("replay", "ingest", "quality", "dataset", "thresholds")},
        "labels": [asdict(label) | {"share": label.share} for label in content.labels],
        "models": [_model_json(model) for model in content.models],
        "drift": plain(content.drift.as_dict()) if content.drift else None,
    }


def _model_json(model: ModelSection) -> dict[str, Any]:
    evaluation = model.evaluation
    scalars = ("target", "family", "kind", "label", "judged_on", "score_name")
    scores = ("fold_scores", "fold_train_scores", "train_score", "validation_score", "test_score")
    maps = ("metrics", "calibration", "baselines", "coefficients", "parameters", "details", "rows")
    return {
        **{name: plain(getattr(evaluation, name)) for name in (*scalars, *scores, *maps)},
        "title": model.title,
        "candidate": model.verdict.candidate,
        "gates": [plain(asdict(gate)) for gate in model.verdict.gates],
        "outcome": model.outcome,
        "version": model.version,
        "importance": plain(asdict(model.importance)) if model.importance else None,
        "previous": model.previous,
        "shifts": [plain(asdict(shift)) for shift in model.shifts],
        "test_performance": {
            "baseline": plain(asdict(evaluation.baseline_performance)),
            "policy": plain(asdict(evaluation.policy_performance)),
        },
    }


def _ladder(content: ReportContent) -> list[tuple[RungRow, tuple[LadderStep, ...]]]:
    return [(row, ladder_steps([model for model in content.models if model.evaluation.family == row.family])) for row in content.ladder]


def _fact_groups(content: ReportContent) -> dict[str, list[tuple[str, str]]]:
    return {
        "Replay": text.facts(content.replay),
        "Ingest": text.facts(content.ingest),
        "Dataset": text.facts(content.dataset, leave_out=("features", "positive_share", "missing_share")),
        "Quality": text.facts(content.quality, leave_out=("checks", "grade", "feature_missing")),
    }


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        number=text.number, percent=text.percent, usd=text.usd, words=text.words, change=text.change, score=text.score, pairs=text.facts
    )
    return environment
