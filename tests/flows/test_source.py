from __future__ import annotations

from pathlib import Path

import pytest

from flows.source import choose_source, snapshot_files
from pipelines.errors import InputError
from pipelines.layout import DataLayout


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    (tmp_path / "raw").mkdir()
    return DataLayout(tmp_path)


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_nothing_there_means_the_synthetic_market_and_says_so(layout: DataLayout) -> None:
    source = choose_source(layout)
    assert source.kind == "synthetic"
    assert "holds neither snapshots nor bars" in source.text


def test_bars_in_raw_are_used(layout: DataLayout) -> None:
    touch(layout.raw / "es_5m.parquet")
    touch(layout.raw / "vix_1d.parquet")
    assert choose_source(layout).kind == "bars"
    assert snapshot_files(layout.raw) == []


def test_snapshots_win_over_bars_and_the_choice_is_told(layout: DataLayout) -> None:
    touch(layout.raw / "es_5m.parquet")
    record = touch(layout.raw / "2024" / "day.jsonl")
    source = choose_source(layout)
    assert source.kind == "snapshots"
    assert "bars beside them are not read" in source.text
    assert snapshot_files(layout.raw) == [record]


def test_a_store_filled_earlier_counts_as_snapshots(layout: DataLayout) -> None:
    touch(layout.snapshots / "signals.parquet")
    assert choose_source(layout).kind == "snapshots"


def test_a_named_folder_wins(layout: DataLayout, tmp_path: Path) -> None:
    touch(layout.raw / "day.jsonl")
    touch(tmp_path / "bars" / "es_1m.csv")
    assert choose_source(layout, tmp_path / "bars").folder == tmp_path / "bars"


def test_a_wrong_folder_is_refused_with_what_is_wanted(layout: DataLayout, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        choose_source(layout, tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no ES bars; expected one of es_5m\.parquet"):
        choose_source(layout, tmp_path)
