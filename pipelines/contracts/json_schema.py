"""The contracts as JSON Schema, for the bot's author and for other languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipelines.contracts.outcome import Outcome, TradeSnapshot
from pipelines.contracts.signal import Signal
from pipelines.storage import write_text

_MODELS: dict[str, type[BaseModel]] = {"signal": Signal, "outcome": Outcome, "trade_snapshot": TradeSnapshot}


def schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema (draft 2020-12) of each record, by file name without ending.

    It describes one record by itself. What a schema cannot say (stop and target on the right
    sides, money that adds up, nothing known later than the decision) only validation checks.
    """
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {name: dialect | model.model_json_schema(mode="validation") for name, model in _MODELS.items()}


def schema_text(schema: dict[str, Any]) -> str:
    """A schema as it stands in its file: sorted keys, two spaces, one end of line."""
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write_schemas(folder: Path) -> tuple[Path, ...]:
    """Write signal.json, outcome.json and trade_snapshot.json; give their paths."""
    paths = []
    for name, schema in schemas().items():
        path = folder / f"{name}.json"
        write_text(path, schema_text(schema))
        paths.append(path)
    return tuple(paths)
