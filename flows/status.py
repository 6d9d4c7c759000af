"""What lies in a data folder, read without running anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.layout import DataLayout


def read_status(layout: DataLayout) -> dict[str, Any]:
    """Gather the present state; what is not there yet is None."""
    import pyarrow.parquet as parquet

    ingested = _read(layout.ingest)
    quality = _read(layout.quality)
    training = _read(layout.training)
    trades = layout.trades / "outcomes.parquet"
    return {
        "source": ingested and ingested["source"],
        "trades": parquet.read_metadata(trades).num_rows if trades.exists() else None,
        "quality": quality and quality["grade"],
        "dataset": training and training["dataset_hash"],
        "not trained because": training and (training["reason"] or None),
        "verdicts": {
            verdict["target"]: "candidate" if verdict["candidate"] else "refused: " + ", ".join(_failed(verdict))
            for verdict in _read(layout.gates) or []
        },
        "registered": {entry["target"]: entry["outcome"] for entry in _read(layout.registered) or []},
        "quarantined files": sorted(path.name for path in layout.quarantine.glob("*.jsonl")),
        "latest report": _latest_report(layout),
    }


def _failed(verdict: dict[str, Any]) -> list[str]:
    return [gate["name"] for gate in verdict["gates"] if not gate["passed"]]


def _latest_report(layout: DataLayout) -> str | None:
    pages = sorted(layout.reports.glob("*/index.html"), key=lambda page: page.stat().st_mtime)
    return str(pages[-1]) if pages else None


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
