"""The examples in docs/snapshots.md are records that Amiral takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pipelines.contracts.base import SCHEMA_VERSION
from tests.pipelines.snapshots.common import Place, write

PAGE = Path(__file__).resolve().parents[3] / "docs" / "snapshots.md"


def test_the_examples_are_one_sound_trade(place: Place) -> None:
    examples = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)]
    assert [example["snapshot_type"] for example in examples] == ["decision", "final_result"]
    assert {example["schema_version"] for example in examples} == {SCHEMA_VERSION}
    write(place.raw / "a.jsonl", examples)
    write(place.raw / "b.jsonl", [{"signal": examples[0], "outcome": examples[1]}])
    report = place.ingest()
    assert place.refused() == []
    assert (report.store.trades, report.duplicates) == (1, 2)


def test_the_page_names_what_it_links_to() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "max_line_bytes" in text
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (PAGE.parent / link).exists(), link
