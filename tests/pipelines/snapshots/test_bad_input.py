"""Bad lines, rows and files: refused with a reason, never lost, never in the way of the rest."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.contracts.outcome import Outcome, pair_problem
from pipelines.contracts.signal import Signal
from pipelines.contracts.tables import OutcomeTable, SignalTable, Trades
from pipelines.errors import InputError
from pipelines.snapshots.pairs import faulty_pairs
from tests.factories import make_trades, outcome_dict, signal_dict
from tests.pipelines.snapshots.common import SETTINGS, Place, line, pairs, write

SIGNAL, OUTCOME = pairs(1)[0]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{broken\n", "not JSON"),
        (b"\x00\x00\x00\n", "not JSON"),
        (b'{"snapshot_type": "decision", "x": "\xff\xfe"}\n', "not JSON|Invalid JSON"),
        (b"\x1f\x8b\x08\x00garbage\n", "not JSON"),
        (b"[1, 2]\n", "a JSON list; expected an object"),
        (b"[" * 5000 + b"\n", "not JSON"),
        (b"{}\n", "snapshot_type: missing; expected decision, final_result"),
        (b'{"snapshot_type": "execution"}\n', "snapshot_type = 'execution': expected decision or final_result"),
        (b'{"snapshot_type": ["decision"]}\n', "snapshot_type = \\['decision'\\]"),
        (SIGNAL | {"net_pnl": 5.0}, "net_pnl: unknown field, value 5.0"),
        (SIGNAL | {"schema_version": "1.7.0"}, "schema_version: schema version 1.7.0 is newer than 1.0.0"),
        (SIGNAL | {"decision_time": "2024-01-02T15:00:00"}, "decision_time = .*timezone"),
        (SIGNAL | {"recorded_at": "0001-01-01T00:00:00+05:00"}, "recorded_at: .* outside the years 2007 to 2098"),
        (SIGNAL | {"decision_time": "9999-01-01T00:00:00Z"}, "decision_time: .* outside the years 2007 to 2098"),
        (SIGNAL | {"decision_time": 1704207600}, "decision_time = 1704207600: .*valid datetime"),
        (OUTCOME | {"exit_time": "9999-01-01T00:00:00Z"}, "exit_time: .* outside the years 2007 to 2098"),
        (OUTCOME | {"commission": True}, "commission = True: .*valid number"),
        (OUTCOME | {"gross_pnl": "2.5"}, "gross_pnl = '2.5': .*valid number"),
        ({key: value for key, value in SIGNAL.items() if key != "bars"}, "bars: missing"),
        (SIGNAL | {"market_state": SIGNAL["market_state"] | {"close": 5000.1}}, "market_state.close = 5000.1: .*multiple of 0.25"),
        (OUTCOME | {"exit_time": "2024-01-01T00:00:00Z"}, "exit_time .* is before entry_time"),
        (OUTCOME | {"entry_price": -1.0}, "entry_price = -1.0: .*greater than 0"),
        (OUTCOME | {"bars_in_trade": 10**400}, "bars_in_trade = 1000"),
        ({"signal": SIGNAL}, "outcome: missing"),
        ({"signal": SIGNAL, "outcome": OUTCOME | {"trade_id": "OTHER"}}, "are of two trades"),
        ({"signal": SIGNAL, "outcome": OUTCOME, "comment": "x"}, "comment: unknown field"),
        (SIGNAL | {"model_version": "x" * 20000}, "a line of .* bytes; expected at most 16384 \\(snapshots.max_line_bytes\\)"),
    ],
)
def test_a_bad_line_goes_to_quarantine_and_the_rest_goes_on(place: Place, bad: dict[str, Any] | bytes, reason: str) -> None:
    good = pairs(3, seed=9)
    path = write(place.raw / "day.jsonl", [good[0][0], bad, good[1][0], b"\n", b"  \r\n", good[2][0], *(outcome for _, outcome in good)])
    report = place.ingest()
    assert (report.store.trades, report.refused, report.signals.records) == (3, 1, 3)
    (entry,) = place.refused()
    assert (entry["file"], entry["line"]) == (str(path.resolve()), 2)
    assert re.search(reason, entry["reason"]), entry["reason"]
    assert len(entry["reason"]) <= SETTINGS.max_reason_chars
    original = bad if isinstance(bad, bytes) else line(bad)
    if len(original) <= SETTINGS.max_line_bytes:
        assert entry["text"] == original.rstrip(b"\n").decode(errors="backslashreplace")
    else:
        assert original.decode().startswith(entry["text"])


def test_quarantine_goes_when_the_source_is_mended(place: Place) -> None:
    write(place.raw / "a" / "day.jsonl", [SIGNAL, b"{half\n"])
    write(place.raw / "b" / "day.jsonl", [OUTCOME, b"[1]\n"])
    place.ingest()
    assert len(list(place.quarantine.iterdir())) == 2  # two files of one name
    write(place.raw / "a" / "day.jsonl", [SIGNAL])
    assert place.ingest().refused == 1
    assert [entry["text"] for entry in place.refused()] == ["[1]"]


def test_what_was_refused_does_not_come_in_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    write(place.raw / "day.jsonl", [SIGNAL, b"{half\n"])
    place.ingest(tmp_path)
    before = place.fingerprint()
    assert len(place.ingest(tmp_path).files) == 1
    assert place.fingerprint() == before


def test_a_mark_at_the_beginning_and_windows_line_ends_are_fine(place: Place) -> None:
    write(place.raw / "day.jsonl", [b"\xef\xbb\xbf" + line(SIGNAL).replace(b"\n", b"\r\n"), line(OUTCOME).replace(b"\n", b"\r\n")])
    assert place.ingest().store.trades == 1


def test_the_type_may_stand_anywhere(place: Place) -> None:
    noted = OUTCOME | {"post_trade": {"snapshot_type": "decision"}}
    turned = {key: noted[key] for key in ("post_trade", *(key for key in noted if key != "post_trade"))}
    write(place.raw / "day.jsonl", [turned, SIGNAL])
    assert place.ingest().store.trades == 1


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_line_being_written_waits_until_it_is_whole(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = Place(tmp_path_factory.mktemp("tail"))
    whole = line(SIGNAL) + line(OUTCOME)
    telling = [0, 1, len(line(SIGNAL)) - 1, len(line(SIGNAL)), len(whole) - 2, len(whole) - 1]
    cut = data.draw(st.sampled_from(telling) | st.integers(0, len(whole)))
    path = write(place.raw / "day.jsonl", [whole[:cut]])
    report = place.ingest()
    # Written so far: whole lines count, and so does a whole object whose end of line is still missing.
    edges = (len(line(SIGNAL)), len(whole))
    done = sum(cut >= edge - 1 for edge in edges)
    assert report.signals.records + report.outcomes.records == done
    begin = 0 if cut < edges[0] else edges[0]
    assert report.pending_bytes == (0 if cut in (0, edges[0] - 1, edges[0], edges[1] - 1, edges[1]) else cut - begin)
    assert report.refused == 0
    path.write_bytes(whole)
    assert place.ingest().store.trades == 1
    assert place.refused() == []


def test_a_half_written_character_waits_too(place: Place) -> None:
    text = json.dumps(SIGNAL | {"model_version": "é"}, ensure_ascii=False).encode()
    cut = text.index("é".encode()) + 1
    write(place.raw / "day.jsonl", [OUTCOME, text[:cut]])
    report = place.ingest()
    assert (report.pending_bytes, report.refused, report.outcomes.added) == (cut, 0, 1)


def test_an_endless_line_is_not_held_in_memory(place: Place) -> None:
    write(place.raw / "day.jsonl", [b"x" * 50_000 + b"\n", SIGNAL, b"y" * 40_000])
    report = place.ingest()
    assert (report.signals.added, report.refused) == (1, 2)
    assert [(entry["line"], len(entry["text"])) for entry in place.refused()] == [(1, 2000), (3, 2000)]
    assert "a line of 50000 bytes" in place.refused()[0]["reason"]
    assert "a line of 40000 bytes" in place.refused()[1]["reason"]


def test_sources_that_cannot_be(place: Place, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist; remedy: name a file or folder"):
        place.ingest(tmp_path / "nowhere")
    place.raw.mkdir()
    with pytest.raises(InputError, match=r"no file to ingest \(0 ignored\); expected at least one .jsonl or .parquet; remedy"):
        place.ingest()
    (place.raw / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"no file to ingest \(1 ignored\)"):
        place.ingest()
    with pytest.raises(InputError, match=r"notes.txt ends in .txt; expected .jsonl or .parquet"):
        place.ingest(place.raw / "notes.txt")
    write(place.raw / "day.jsonl", [SIGNAL])
    assert [Path(path).name for path in place.ingest().ignored] == ["notes.txt"]


def test_what_is_no_regular_file_is_not_read(place: Place) -> None:
    """A loop of links has no end to resolve, and opening a pipe waits for a writer that never comes."""
    write(place.raw / "day.jsonl", [SIGNAL])
    (place.raw / "loop.jsonl").symlink_to("loop.jsonl")
    (place.raw / "gone.parquet").symlink_to("nowhere")
    (place.raw / "round").symlink_to("round")
    os.mkfifo(place.raw / "pipe.jsonl")
    report = place.ingest()
    assert (report.signals.added, report.problems) == (1, ())
    ignored = {Path(entry).name for entry in report.ignored}
    assert ignored == {"gone.parquet: no regular file", "loop.jsonl: no regular file", "pipe.jsonl: no regular file", "round"}
    with pytest.raises(InputError, match=r"pipe.jsonl is no regular file; remedy: name a file or folder"):
        place.ingest(place.raw / "pipe.jsonl")
    with pytest.raises(InputError, match=r"loop.jsonl does not exist"):
        place.ingest(place.raw / "loop.jsonl")


def test_a_link_is_read_by_its_own_name(place: Place, tmp_path: Path) -> None:
    target = write(tmp_path / "cache" / "0a1b2c", [SIGNAL])
    place.raw.mkdir()
    (place.raw / "day.jsonl").symlink_to(target)
    report = place.ingest(place.raw, place.raw / "day.jsonl")
    assert (report.signals.added, len(report.files), report.duplicates) == (1, 1, 0)


def test_a_file_without_line_feeds_is_a_problem_and_does_not_wait(place: Place) -> None:
    content = (line(SIGNAL) + line(OUTCOME)).replace(b"\n", b"\r")
    write(place.raw / "old-mac.jsonl", [content])
    write(place.raw / "day.jsonl", [SIGNAL])
    report = place.ingest()
    assert (report.signals.added, report.pending_bytes) == (1, 0)
    (found,) = report.problems
    assert found.problem == f"no line feed in {len(content)} bytes; remedy: end lines with a line feed, not with a carriage return alone"


def test_files_that_are_no_parquet_are_reported_and_the_rest_goes_on(place: Place) -> None:
    trades = make_trades(3)
    write(place.raw / "day.jsonl", [SIGNAL, OUTCOME])
    trades.outcomes.write(place.raw / "whole.parquet")
    content = (place.raw / "whole.parquet").read_bytes()
    (place.raw / "cut.parquet").write_bytes(content[: len(content) // 2])
    (place.raw / "empty.parquet").write_bytes(b"")
    (place.raw / "text.parquet").write_bytes(b"this is text")
    parquet.write_table(pa.table({"ts": [1], "open": [5000.0]}), place.raw / "es_5m.parquet")
    report = place.ingest()
    assert (report.store.trades, report.outcomes.records) == (1, 4)
    found = {Path(file.path).name: str(file.problem) for file in report.problems}
    assert set(found) == {"cut.parquet", "empty.parquet", "text.parquet", "es_5m.parquet"}
    assert "cut.parquet is not readable Parquet" in found["cut.parquet"]
    assert "it may be cut off" in found["cut.parquet"]
    assert found["es_5m.parquet"].startswith("no snapshots: columns ts, open; expected a table of signals or of outcomes")
    # Bars beside the snapshots are no fault; unreadable files are.
    assert {Path(entry["file"]).name for entry in place.refused()} == {"cut.parquet", "empty.parquet", "text.parquet"}
    json.dumps(report.to_dict())


def test_damage_in_the_middle_of_a_file_is_found(place: Place) -> None:
    make_trades(1500).outcomes.write(place.raw / "o.parquet")
    content = bytearray((place.raw / "o.parquet").read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    (place.raw / "o.parquet").write_bytes(bytes(content))
    write(place.raw / "day.jsonl", [SIGNAL])
    report = place.ingest()
    assert report.signals.added == 1
    assert [Path(file.path).name for file in report.problems] == ["o.parquet"]


def test_rows_that_break_the_contract_are_refused_one_by_one(place: Place) -> None:
    trades = make_trades(6)
    outcomes = trades.outcomes.frame.copy()
    outcomes.loc[1, "exit_price"] += 0.1
    outcomes.loc[3, "net_pnl"] += 100.0
    place.raw.mkdir()
    outcomes.to_parquet(place.raw / "o.parquet")
    frame = trades.signals.frame.copy()
    frame.loc[2, "market_state.atr_14"] = -1.0
    bars = trades.signals.bars.copy()
    bars[4, 0, 1] = np.nan
    SignalTable.of(frame, bars, trades.signals.clusters).write(place.raw / "s.parquet")
    report = place.ingest()
    assert (report.outcomes.added, report.signals.added, report.store.trades) == (4, 4, 2)
    found = {(Path(entry["file"]).name, entry["line"]): entry["reason"] for entry in place.refused()}
    assert set(found) == {("o.parquet", 2), ("o.parquet", 4), ("s.parquet", 3), ("s.parquet", 5)}
    assert "multiple of 0.25" in found["o.parquet", 2]
    assert "differs from gross_pnl - commission" in found["o.parquet", 4]
    assert "market_state.atr_14 = -1.0" in found["s.parquet", 3]
    assert "bars.open.0 = nan" in found["s.parquet", 5]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda frame: frame.assign(profit=1.0), "unknown column\\(s\\) 'profit'; expected columns of Outcome"),
        (lambda frame: frame.drop(columns="commission"), "commission: missing"),
        (lambda frame: frame.assign(post_trade="{half"), "not readable: Expecting|not readable"),
        (lambda frame: frame.assign(entry_time=frame["entry_time"].dt.tz_localize(None)), "entry_time = .*timezone"),
    ],
)
def test_parquet_tables_of_another_shape(place: Place, change: Any, reason: str) -> None:
    write(place.raw / "day.jsonl", [SIGNAL])
    frame = change(make_trades(2).outcomes.frame)
    frame.to_parquet(place.raw / "o.parquet")
    report = place.ingest()
    assert (report.outcomes.added, report.signals.added) == (0, 1)
    assert all(re.search(reason, entry["reason"]) for entry in place.refused()), place.refused()
    assert place.refused()


def replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """The table with another column of this name."""
    return table.set_column(table.schema.get_field_index(name), name, values)


ODD_COLUMNS = {
    "bars.close": (pa.array([5000.0] * 3), "column 'bars.close' is of type double; expected a list of numbers"),
    "bars.open": (pa.array([["5000.0"]] * 3), "column 'bars.open' is of type list.*; expected a list of numbers"),
    "battle_navale.filters_passed": (pa.array([5] * 3), "'battle_navale.filters_passed' is of type int64; expected JSON text"),
    "battle_navale.filters_failed": (pa.array([["vwap"]] * 3), "expected JSON text"),
    "market_state.atr_14": (pa.array([True] * 3), "column 'market_state.atr_14' is of type bool; expected numbers"),
    "market_state.vwap": (pa.array(["4990.5"] * 3), "column 'market_state.vwap' is of type string; expected numbers"),
    "decision_time": (pa.array([1704207600] * 3), "column 'decision_time' is of type int64; expected timestamps"),
    "symbol": (pa.array([b"ES"] * 3), "column 'symbol' is of type binary; expected text"),
    "microstructure.volume_spike_detected": (pa.array([1] * 3), "is of type int64; expected booleans"),
}


@pytest.mark.parametrize("name", ODD_COLUMNS)
def test_a_column_of_another_type_refuses_its_file_only(place: Place, name: str) -> None:
    values, reason = ODD_COLUMNS[name]
    trades = make_trades(3)
    trades.signals.write(place.raw / "a.parquet")
    parquet.write_table(replaced(parquet.read_table(place.raw / "a.parquet"), name, values), place.raw / "a.parquet")
    trades.outcomes.write(place.raw / "b.parquet")
    write(place.raw / "day.jsonl", [SIGNAL])
    report = place.ingest()
    assert (report.signals.added, report.outcomes.added) == (1, 3)
    (found,) = report.problems
    assert Path(found.path).name == "a.parquet"
    assert re.search(reason, str(found.problem)), found.problem


def test_two_columns_of_one_name_refuse_their_file(place: Place) -> None:
    make_trades(3).outcomes.write(place.raw / "a.parquet")
    table = parquet.read_table(place.raw / "a.parquet")
    parquet.write_table(table.append_column("net_pnl", pa.array([9.0] * 3)), place.raw / "a.parquet")
    report = place.ingest()
    assert (report.outcomes.added, [found.problem for found in report.problems]) == (
        0,
        ["two columns of one name; remedy: write the file again"],
    )


def unreadable(kind: str) -> pa.Array:
    """A column whose second value (or, without a time zone, every one) Python cannot hold."""
    match kind:
        case "far year":
            moments = [1704207600_000, 400_000_000_000_000, 1704207600_000]
            return pa.array(moments, type=pa.int64()).cast(pa.timestamp("ms", "UTC"))
        case "year 9999":
            return pa.array([1704207600, 253_370_764_800, 1704207600]).cast(pa.timestamp("s", "UTC"))
        case "no such zone":
            return pa.array([1704207600] * 3).cast(pa.timestamp("s")).cast(pa.int64()).view(pa.timestamp("s", "Mars/Olympus"))
    offsets, content = pa.py_buffer(np.array([0, 1, 3, 4], dtype=np.int32).tobytes()), pa.py_buffer(b"a\xff\xfeb")
    return pa.StringArray.from_buffers(3, offsets, content)


@pytest.mark.parametrize(
    ("kind", "name", "stored", "reason"),
    [
        ("far year", "recorded_at", 2, "not readable: recorded_at: "),
        ("year 9999", "recorded_at", 2, "recorded_at: 9999-.* outside the years 2007 to 2098"),
        ("no such zone", "recorded_at", 0, "not readable: recorded_at: .*Mars/Olympus"),
        ("bytes", "model_version", 2, "not readable: model_version: .*decode byte 0xff"),
    ],
)
def test_a_value_that_cannot_be_read_refuses_its_row_only(place: Place, kind: str, name: str, stored: int, reason: str) -> None:
    trades = make_trades(3)
    trades.signals.write(place.raw / "a.parquet")
    parquet.write_table(replaced(parquet.read_table(place.raw / "a.parquet"), name, unreadable(kind)), place.raw / "a.parquet")
    write(place.raw / "day.jsonl", [OUTCOME])
    report = place.ingest()
    assert (report.signals.added, report.outcomes.added, report.refused) == (stored, 1, 3 - stored)
    entries = place.refused()
    assert [entry["line"] for entry in entries] == ([2] if stored else [1, 2, 3])
    for entry in entries:
        assert re.search(reason, entry["reason"]), entry["reason"]
        assert json.loads(entry["text"])["trade_id"] == trades.signals.frame["trade_id"].iloc[entry["line"] - 1]


def test_texts_held_as_a_dictionary_and_numbers_of_another_width_are_fine(place: Place) -> None:
    make_trades(3).signals.write(place.raw / "a.parquet")
    table = parquet.read_table(place.raw / "a.parquet")
    for name, kind in (
        ("symbol", pa.dictionary(pa.int32(), pa.string())),
        ("market_state.volume", pa.int64()),
        ("trade_id", pa.large_string()),
    ):
        table = replaced(table, name, table.column(name).cast(kind))
    table = replaced(table, "bars.close", table.column("bars.close").cast(pa.large_list(pa.float64())))
    parquet.write_table(table, place.raw / "a.parquet")
    assert place.ingest().signals.added == 3


def test_a_pair_that_is_no_trade_is_set_aside_until_it_is_mended(place: Place) -> None:
    good, bad = pairs(2)
    twisted = bad[1] | {"exit_price": bad[1]["exit_price"] + 1.0}
    write(place.raw / "day.jsonl", [*good, bad[0], twisted])
    report = place.ingest()
    assert (report.store.trades, report.store.faulty_pairs) == (1, 1)
    assert len(place.store.trades()) == 1
    (entry,) = place.refused()
    assert "differs from" in entry["reason"]
    assert json.loads(entry["text"])["outcome"]["trade_id"] == bad[0]["trade_id"]
    write(place.raw / "mended.jsonl", [bad[1] | {"recorded_at": "2025-01-01T00:00:00Z"}])
    assert place.ingest().store.trades == 2
    assert place.refused() == []


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    change=st.sampled_from(["nothing", "exit", "entry_time", "ticks", "gross", "r", "size", "huge", "symbol"]),
)
def test_tables_and_records_judge_pairs_alike(seed: int, change: str) -> None:
    rng = np.random.default_rng(seed)
    signal = signal_dict(rng)
    outcome = outcome_dict(signal, rng)
    step = float(rng.choice([0.0, 0.004, 0.02, 1.0]))
    match change:
        case "exit":
            outcome["exit_price"] += 0.25
        case "entry_time":
            outcome["entry_time"] = "2024-01-02T14:59:59.999999Z"
        case "ticks":
            outcome["pnl_ticks"] += step
        case "gross":
            outcome["gross_pnl"] += step
            outcome["net_pnl"] += step
        case "r":
            outcome["realized_r"] += step
        case "size":
            outcome["quantity_filled"] = 2
        case "huge":
            outcome["quantity_filled"], outcome["exit_price"] = 2**53, 2.0**1020
        case "symbol":
            signal["symbol"] = "MES"
    one, other = Signal.model_validate(signal), Outcome.model_validate(outcome)
    table = Trades(SignalTable.from_records([one]), OutcomeTable.from_records([other]))
    assert faulty_pairs(table).tolist() == [pair_problem(one, other) is not None]


def test_no_timestamp_is_read_from_a_table_without_rows(place: Place) -> None:
    SignalTable.empty().write(place.raw / "s.parquet")
    report = place.ingest()
    assert (report.records, report.problems) == (0, ())
    assert isinstance(place.store.trades().signals.frame, pd.DataFrame)
