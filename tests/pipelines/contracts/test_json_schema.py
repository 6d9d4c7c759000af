"""The JSON Schemas in docs/schemas are those of the contracts."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.contracts.json_schema import schema_text, schemas, write_schemas

DOCS = Path(__file__).resolve().parents[3] / "docs" / "schemas"


def test_the_files_match_the_contracts() -> None:
    for name, schema in schemas().items():
        path = DOCS / f"{name}.json"
        assert path.exists(), f"{path.name} is missing; run `amiral schemas`"
        assert path.read_text(encoding="utf-8") == schema_text(schema), f"{path.name} is out of date; run `amiral schemas`"
    assert {path.stem for path in DOCS.glob("*.json")} == set(schemas())


def test_written_twice_is_the_same(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in write_schemas(tmp_path)]
    assert first == [path.read_bytes() for path in write_schemas(tmp_path)]
    assert all(content.endswith(b"}\n") for content in first)


def test_unknown_fields_are_refused_by_the_schema_too() -> None:
    signal = schemas()["signal"]
    assert signal["additionalProperties"] is False
    assert set(signal["required"]) >= {"trade_id", "decision_time", "bars", "schema_version"}
    assert "net_pnl" not in json.dumps(signal)
