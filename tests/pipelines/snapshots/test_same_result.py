"""Ingest gives one result for one set of records: any order, any split, any number of times."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.contracts.outcome import Outcome
from pipelines.contracts.signal import Signal
from pipelines.contracts.tables import OutcomeTable, SignalTable
from pipelines.snapshots.ingest import ingest_tables
from pipelines.snapshots.merge import digests, merge
from pipelines.snapshots.store import SnapshotStore
from tests.factories import make_trades, signal_dict
from tests.pipelines.snapshots.common import Place, line, pairs, write


def versions() -> list[dict[str, Any]]:
    """Whole snapshots, loose records, copies, later versions and two versions of one moment."""
    closed = pairs(5)
    later = closed[1][1] | {"recorded_at": "2024-02-01T00:00:00Z", "order_id": "late"}
    tie_a, tie_b = closed[2][1] | {"order_id": "a"}, closed[2][1] | {"order_id": "b"}
    earlier = closed[3][0] | {"recorded_at": "2024-01-01T00:00:00Z", "model_version": "old"}
    return [
        {"signal": closed[0][0], "outcome": closed[0][1]},
        {"outcome": closed[1][1], "signal": closed[1][0]},
        *(record for pair in closed[2:] for record in pair),
        *(later, tie_a, tie_b, earlier),
        *(closed[4][0], closed[4][0]),
    ]


@settings(max_examples=12, deadline=None)
@given(order=st.permutations(range(14)), cuts=st.sets(st.integers(1, 13), max_size=5), one_by_one=st.booleans())
def test_order_and_split_do_not_matter(
    order: list[int], cuts: set[int], one_by_one: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    records = versions()
    assert len(records) == len(order)
    reference = Place(tmp_path_factory.mktemp("reference"))
    write(reference.raw / "all.jsonl", records)
    reference.ingest()

    place = Place(tmp_path_factory.mktemp("split"))
    edges = [0, *sorted(cuts), len(records)]
    for number, (begin, end) in enumerate(itertools.pairwise(edges)):
        path = write(place.raw / f"{number % 3}" / f"{number}.jsonl", [records[k] for k in order[begin:end]])
        if one_by_one:
            place.ingest(path)
    place.ingest()
    assert place.store.trades().content_hash() == reference.store.trades().content_hash()
    assert place.fingerprint() == reference.fingerprint()
    assert len(place.store.trades()) == 5


def test_ingesting_twice_changes_nothing(place: Place) -> None:
    write(place.raw / "a.jsonl", [*versions(), b"{broken\n"])
    write(place.raw / "b.jsonl", [b"\x00\xff\n", pairs(6)[5][0]])
    first = place.ingest()
    before = place.fingerprint()
    second = place.ingest()
    assert place.fingerprint() == before
    assert second.store == first.store
    assert second.duplicates == first.duplicates  # the store's own copies are no duplicates
    assert (second.signals.added, second.signals.updated, second.outcomes.added, second.outcomes.updated) == (0, 0, 0, 0)


def test_the_later_version_wins_and_every_record_is_counted(place: Place) -> None:
    (signal, outcome), *_ = pairs(1)
    late = outcome | {"recorded_at": "2024-03-01T00:00:00Z", "order_id": "late"}
    write(place.raw / "1.jsonl", [late, signal])
    write(place.raw / "2.jsonl", [outcome, outcome, late])
    report = place.ingest()
    assert place.store.outcomes().frame["order_id"].tolist() == ["late"]
    counts = report.outcomes
    assert (counts.records, counts.duplicates, counts.superseded, counts.added) == (4, 2, 1, 1)
    assert report.duplicates == 2
    write(place.raw / "3.jsonl", [late | {"recorded_at": "2024-03-02T00:00:00Z", "order_id": "latest"}])
    counts = place.ingest(place.raw / "3.jsonl").outcomes
    assert (counts.records, counts.updated, counts.added) == (1, 1, 0)
    assert place.store.outcomes().frame["order_id"].tolist() == ["latest"]


def test_a_later_moment_in_another_zone_is_later(place: Place) -> None:
    (signal, _), *_ = pairs(1)
    noon_utc = signal | {"recorded_at": "2024-03-01T12:00:00Z", "model_version": "utc"}
    later = signal | {"recorded_at": "2024-03-01T08:00:00-05:00", "model_version": "new york"}
    write(place.raw / "a.jsonl", [later, noon_utc])
    place.ingest()
    assert place.store.signals().frame["model_version"].tolist() == ["new york"]


def test_a_record_and_its_table_row_are_the_same_record(place: Place) -> None:
    closed = pairs(4)
    write(place.raw / "a.jsonl", [{"signal": signal, "outcome": outcome} for signal, outcome in closed])
    place.ingest()
    before = place.fingerprint()
    SignalTable.from_records([Signal.model_validate(signal) for signal, _ in closed]).write(place.raw / "s.parquet")
    OutcomeTable.from_records([Outcome.model_validate(outcome) for _, outcome in closed]).write(place.raw / "o.parquet")
    report = place.ingest()
    assert report.duplicates == 8
    assert place.fingerprint() == before


def test_parquet_alone_gives_the_same_store(place: Place, tmp_path: Path) -> None:
    closed = pairs(4)
    write(place.raw / "a.jsonl", [{"signal": signal, "outcome": outcome} for signal, outcome in closed])
    place.ingest()
    other = Place(tmp_path / "other")
    place.store.signals().write(other.raw / "s.parquet")
    place.store.outcomes().write(other.raw / "o.parquet")
    other.ingest()
    assert other.fingerprint() == place.fingerprint()


def test_tables_of_a_replay(tmp_path: Path) -> None:
    trades = make_trades(8)
    store = SnapshotStore(tmp_path / "store")
    shuffled = np.array([3, 1, 7, 0, 2, 6, 5, 4])
    ingest_tables(trades.signals.take(shuffled), trades.outcomes, store)
    assert store.trades().content_hash() == trades.content_hash()
    report = ingest_tables(trades.signals, trades.outcomes, store)
    assert (report.signals.unchanged, report.signals.added) == (8, 0)
    ingest_tables(trades.signals.take(np.array([0, 1])), trades.outcomes.take(np.array([1])), store, replace=True)
    counts = store.counts()
    assert (counts.signals, counts.outcomes, counts.trades, counts.open_signals) == (2, 1, 1, 1)


def test_merge_agrees_with_a_plain_dictionary() -> None:
    rng = np.random.default_rng(3)
    base = [signal_dict(rng, number) for number in range(4)]
    records = []
    for _ in range(60):
        record = base[rng.integers(4)]
        moment = f"2024-05-0{rng.integers(1, 4)}T00:00:00Z"
        records.append(record | {"recorded_at": moment, "model_version": str(rng.integers(3))})
    table = SignalTable.from_records([Signal.model_validate(record) for record in records])
    blocks = [table.take(np.arange(begin, begin + 12)) for begin in range(0, 60, 12)]
    merged = merge(SignalTable.empty(), blocks)

    content = digests(table, np.arange(60)).tolist()
    best: dict[str, tuple[str, list[int], str]] = {}
    for record, digest in zip(records, content, strict=True):
        rank = (record["recorded_at"], digest, record["model_version"])
        best[record["trade_id"]] = max(best.get(record["trade_id"], rank), rank, key=lambda item: (item[0], signed(item[1])))
    found = dict(zip(merged.table.frame["trade_id"], merged.table.frame["model_version"], strict=True))
    assert found == {name: rank[2] for name, rank in best.items()}
    distinct = {json.dumps(record, sort_keys=True) for record in records}
    assert merged.counts.duplicates == 60 - len(distinct)
    assert merged.counts.superseded == len(distinct) - 4
    assert merged.counts.added == 4


def signed(digest: list[int]) -> list[int]:
    return [word - 2**64 if word >= 2**63 else word for word in digest]


def test_the_digest_tells_missing_from_empty_and_not_minus_zero() -> None:
    trades = make_trades(2)
    frame = pd.concat([trades.signals.frame.iloc[[0]]] * 5, ignore_index=True)
    frame["model_version"] = pd.array([None, "", "nan", None, None], dtype="str")
    frame["market_state.vwap_slope"] = [0.0, 0.0, 0.0, -0.0, np.nan]
    bars, clusters = trades.signals.bars[[0] * 5], trades.signals.clusters[[0] * 5]
    found = digests(SignalTable.of(frame, bars, clusters), np.arange(5)).tolist()
    assert found[0] == found[3]
    assert len({tuple(digest) for digest in found}) == 4


def test_an_outcome_waits_for_its_signal(place: Place) -> None:
    closed = pairs(3)
    write(place.raw / "outcomes.jsonl", [outcome for _, outcome in closed])
    counts = place.ingest().store
    assert (counts.trades, counts.orphan_outcomes, counts.open_signals) == (0, 3, 0)
    write(place.raw / "signals.jsonl", [closed[0][0], closed[2][0], pairs(4)[3][0]])
    counts = place.ingest().store
    assert (counts.trades, counts.orphan_outcomes, counts.open_signals) == (2, 1, 1)
    assert place.refused() == []
    write(place.raw / "late.jsonl", [closed[1][0]])
    assert place.ingest(place.raw / "late.jsonl").store.trades == 3
    assert place.store.counts().trades == len(place.store.trades()) == 3


def test_nothing_to_read_is_no_error_when_nothing_is_asked_for(place: Place) -> None:
    from pipelines.snapshots.ingest import ingest
    from tests.pipelines.snapshots.common import SETTINGS

    report = ingest([], place.store, place.quarantine, SETTINGS)
    assert (report.records, report.store.trades) == (0, 0)
    assert len(place.store.trades()) == 0


def test_progress_reaches_the_end(place: Place) -> None:
    from pipelines.snapshots.ingest import ingest
    from tests.pipelines.snapshots.common import SETTINGS

    path = write(place.raw / "a.jsonl", [line(record) for pair in pairs(4) for record in pair])
    seen: list[tuple[int, int]] = []
    ingest([path], place.store, place.quarantine, SETTINGS, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
