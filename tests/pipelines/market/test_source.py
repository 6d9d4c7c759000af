from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.baseline.replay import replay
from pipelines.errors import InputError
from pipelines.market.frame import build_market
from pipelines.market.source import read_folder, write_inputs
from pipelines.market.synthetic import synthesise
from tests.pipelines.market.samples import bars_at, new_york_range, settings_with, utc

SETTINGS = settings_with("synthetic.sessions=4")


def folder_of_bars(folder: Path) -> pd.DatetimeIndex:
    ts = new_york_range("2024-01-09 18:00", "2024-01-10 17:00")
    bars_at(ts).to_parquet(folder / "es_5m.parquet")
    return ts


@pytest.mark.parametrize("minutes", [1, 5])
def test_written_inputs_come_back(tmp_path: Path, minutes: int) -> None:
    settings = settings_with("synthetic.sessions=2", f"synthetic.bar_minutes={minutes}")
    made = synthesise(settings, 3)
    write_inputs(made, tmp_path)
    read = read_folder(tmp_path, settings)
    for name in ("bars", "nq", "vix", "options"):
        pd.testing.assert_frame_equal(getattr(read, name), getattr(made, name))
    assert (read.bar_minutes, read.source, read.notes, len(read.quarantined)) == (minutes, "simulated", (), 0)
    pd.testing.assert_frame_equal(build_market(read, settings).frame, build_market(made, settings).frame)


def test_a_part_that_is_gone_takes_its_file_away(tmp_path: Path) -> None:
    made = synthesise(SETTINGS, 3)
    write_inputs(made, tmp_path)
    write_inputs(dataclasses.replace(made, nq=None, vix=None, options=None), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["es_5m.parquet", "market.json"]


def test_bars_alone_are_enough_and_the_notes_say_what_is_missing(tmp_path: Path) -> None:
    folder_of_bars(tmp_path)
    inputs = read_folder(tmp_path, SETTINGS)
    assert (inputs.nq, inputs.vix, inputs.options, inputs.source) == (None, None, None, "replay")
    assert inputs.notes == (
        "no nq_5m file: es_nq_correlation is missing",
        "no VIX file (vix_1d): vix_level is missing",
        "no option chains (option_chains_*.parquet): option levels are missing",
    )
    build_market(inputs, SETTINGS).validate()


def test_csv_and_one_minute_bars(tmp_path: Path) -> None:
    bars_at(new_york_range("2024-01-10 09:30", "2024-01-10 10:00", 1)).to_csv(tmp_path / "es_1m.csv", index=False)
    inputs = read_folder(tmp_path, SETTINGS)
    assert inputs.bar_minutes == 1
    assert "no nq_1m file: es_nq_correlation is missing" in inputs.notes


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no ES bars \(it has nothing\); expected es_5m or es_1m.*remedy: put the bars there"):
        read_folder(tmp_path, SETTINGS)
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(InputError, match=r"it has readme.txt"):
        read_folder(tmp_path, SETTINGS)
    with pytest.raises(InputError, match=r"is not a folder"):
        read_folder(tmp_path / "absent", SETTINGS)


def test_two_files_of_one_thing_are_refused(tmp_path: Path) -> None:
    folder_of_bars(tmp_path)
    (tmp_path / "es_5m.csv").write_text("ts\n")
    with pytest.raises(InputError, match=r"has es_5m.parquet and es_5m.csv; expected one of them"):
        read_folder(tmp_path, SETTINGS)


def test_misaligned_nq_is_told(tmp_path: Path) -> None:
    ts = folder_of_bars(tmp_path)
    bars_at(ts + pd.Timedelta(days=1), 2, 17000.0).to_parquet(tmp_path / "nq_5m.parquet")
    inputs = read_folder(tmp_path, SETTINGS)
    assert "nq_5m.parquet: only 0% of the ES bars have a bar at the same time: es_nq_correlation is mostly missing" in inputs.notes
    assert build_market(inputs, SETTINGS).frame["es_nq_correlation"].isna().all()
    bars_at(ts[ts.minute % 15 == 0], 2, 17000.0).to_parquet(tmp_path / "nq_5m.parquet")
    with pytest.raises(InputError, match=r"nq_5m.parquet has bars of 15 minutes"):
        read_folder(tmp_path, SETTINGS)


def test_nq_above_the_band_of_es_is_read(tmp_path: Path) -> None:
    ts = folder_of_bars(tmp_path)
    bars_at(ts, 2, 17000.0).to_parquet(tmp_path / "nq_5m.parquet")
    inputs = read_folder(tmp_path, SETTINGS)
    assert inputs.quarantined.empty
    assert len(inputs.nq) == len(ts)


def test_bad_vix_rows_go_to_quarantine_and_a_missing_column_is_refused(tmp_path: Path) -> None:
    folder_of_bars(tmp_path)
    known = pd.date_range("2024-01-03 21:15", periods=5, freq="D", tz="UTC")
    vix = pd.DataFrame({"known_at": known, "close": [14.0, np.nan, 0.0, 15.0, 16.0]})
    vix.iloc[::-1].to_parquet(tmp_path / "vix_1d.parquet")
    inputs = read_folder(tmp_path, SETTINGS)
    assert inputs.vix["close"].tolist() == [14.0, 15.0, 16.0]
    assert len(inputs.quarantined) == 2
    assert any("vix_1d.parquet: 2 row(s) quarantined" in note for note in inputs.notes)
    vix.rename(columns={"known_at": "date"}).to_parquet(tmp_path / "vix_1d.parquet")
    with pytest.raises(InputError, match=r"vix_1d.parquet lacks known_at \(it has date, close\)"):
        read_folder(tmp_path, SETTINGS)


def chain() -> pd.DataFrame:
    frame = pd.DataFrame({"strike": [105.0, 110.0, 95.0, 90.0], "type": ["C", "C", "P", "P"], "gamma": 0.02, "open_interest": 100.0})
    return frame.assign(ts=utc("2024-01-10 15:00"), expiry=pd.Timestamp("2024-02-16"), iv=0.2, volume=5, spot=100.0)


def test_bad_option_rows_go_to_quarantine(tmp_path: Path) -> None:
    folder_of_bars(tmp_path)
    rows = pd.concat([chain()] * 2, ignore_index=True)
    rows.loc[4, "gamma"] = np.nan
    rows.loc[5, "spot"] = 0.0
    rows.loc[6, "open_interest"] = -1.0
    rows.loc[7, "type"] = "X"
    rows = pd.concat([rows, chain().iloc[:1].assign(strike=np.inf)], ignore_index=True)
    rows.to_parquet(tmp_path / "option_chains_toy.parquet")
    inputs = read_folder(tmp_path, SETTINGS)
    assert inputs.options["call_oi"].tolist() == [200.0]
    assert inputs.quarantined["row"].tolist() == [5, 6, 7, 8, 9]
    frame = build_market(inputs, SETTINGS).validate().frame
    known = frame["end"] >= utc("2024-01-10 15:00")
    assert frame.loc[known, "call_wall"].notna().all()
    assert frame.loc[~known, "call_wall"].isna().all()


def test_chains_of_an_uncertain_time_are_not_used(tmp_path: Path) -> None:
    folder_of_bars(tmp_path)
    chain().assign(header_time_ok=False).to_parquet(tmp_path / "option_chains_a.parquet")
    inputs = read_folder(tmp_path, SETTINGS)
    assert inputs.options is None
    assert len(inputs.quarantined) == 4
    assert "header_time_ok" in inputs.quarantined["reason"][0]


def test_only_a_plain_true_makes_the_time_of_a_chain_certain(tmp_path: Path) -> None:
    folder_of_bars(tmp_path)
    for name, values in {"text": ["False", "True", "True", "True"], "null": [True, None, False, True], "number": [1, 1, 1, 0]}.items():
        chain().assign(header_time_ok=pd.Series(values, dtype="object" if name == "null" else None)).to_parquet(
            tmp_path / "option_chains_a.parquet"
        )
        inputs = read_folder(tmp_path, SETTINGS)
        assert inputs.quarantined["row"].tolist() == ([2, 3] if name == "null" else [1, 2, 3, 4]), name


@pytest.mark.parametrize(
    "expiry",
    [
        pd.Timestamp("2024-02-16", tz="UTC"),
        pd.Timestamp("2024-02-16", tz="America/New_York"),
        pd.Timestamp("2024-02-16 21:00", tz="UTC"),
        dt.date(2024, 2, 16),
        "2024-02-16",
        "2024-02-16T16:00:00-05:00",
    ],
)
def test_an_expiry_is_the_date_as_it_is_written(tmp_path: Path, expiry: object) -> None:
    folder_of_bars(tmp_path)
    chain().to_parquet(tmp_path / "option_chains_a.parquet")
    expected = read_folder(tmp_path, SETTINGS).options
    rows = chain().assign(expiry=expiry)
    rows = pd.concat([rows, rows.iloc[:1].assign(gamma=-1.0)])
    rows.to_parquet(tmp_path / "option_chains_a.parquet")
    inputs = read_folder(tmp_path, SETTINGS)
    pd.testing.assert_frame_equal(inputs.options, expected)
    assert inputs.quarantined["row"].tolist() == [5]
    assert json.loads(inputs.quarantined["values"][0])["expiry"].startswith("2024-02-16")


def test_saved_indices_of_chains_and_vix_play_no_part(tmp_path: Path) -> None:
    folder_of_bars(tmp_path)
    rows = pd.concat([chain(), chain().assign(ts=utc("2024-01-10 16:00"))])
    rows.iloc[5, rows.columns.get_loc("gamma")] = np.nan
    rows.to_parquet(tmp_path / "option_chains_a.parquet")
    vix = pd.DataFrame({"close": [14.0, 0.0]}, index=pd.DatetimeIndex([utc("2024-01-08 21:15")] * 2, name="known_at"))
    vix.to_parquet(tmp_path / "vix_1d.parquet")
    inputs = read_folder(tmp_path, SETTINGS)
    assert len(inputs.options) == 2
    assert inputs.vix["close"].tolist() == [14.0]
    assert inputs.quarantined[["file", "row"]].to_numpy().tolist() == [["vix_1d.parquet", 2], ["option_chains_a.parquet", 6]]


def test_impossible_levels_are_put_aside_and_missing_ones_are_not(tmp_path: Path) -> None:
    made = synthesise(SETTINGS, 3)
    levels = made.options.iloc[:10].astype({"put_oi": "object"})
    levels.loc[0, ["call_wall", "put_wall", "gamma_flip", "put_call_ratio"]] = np.nan
    faults = {1: ("call_wall", -5.0), 2: ("call_volume", -1.0), 3: ("spot", 0.0), 4: ("net_gamma", np.inf), 5: ("asof", pd.NaT)}
    for row, (name, value) in faults.items():
        levels.loc[row, name] = value
    levels["put_oi"] = levels["put_oi"].astype("str")
    levels.loc[6, "put_oi"] = "many"
    write_inputs(dataclasses.replace(made, options=levels), tmp_path)
    inputs = read_folder(tmp_path, SETTINGS)
    assert len(inputs.options) == 4
    assert inputs.options["call_wall"].isna().tolist() == [True, False, False, False]
    assert inputs.quarantined["row"].tolist() == [2, 3, 4, 5, 6, 7]
    assert inputs.quarantined["reason"].tolist() == [
        "spot or a level is zero or negative",
        "a volume, open interest, ratio or exposure is negative",
        "spot or a level is zero or negative",
        *["asof or spot is missing, or a cell is unreadable"] * 3,
    ]
    replay(build_market(inputs, SETTINGS), SETTINGS)


def test_a_truncated_companion_is_refused_by_name(tmp_path: Path) -> None:
    folder_of_bars(tmp_path)
    for name in ("nq_5m.parquet", "vix_1d.parquet", "option_chains_a.parquet"):
        (tmp_path / name).write_bytes(b"PAR1 cut off")
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            read_folder(tmp_path, SETTINGS)
        (tmp_path / name).unlink()


def test_gaps_in_regular_hours_are_told(tmp_path: Path) -> None:
    ts = folder_of_bars(tmp_path)
    hole = (ts >= utc("2024-01-10 16:00")) & (ts < utc("2024-01-10 16:30"))
    bars_at(ts[~hole]).to_parquet(tmp_path / "es_5m.parquet")
    assert (
        "1 gap(s) of more than 3 bars in regular hours, the longest of 6 bars after 2024-01-10 15:55 UTC"
        in read_folder(tmp_path, SETTINGS).notes[0]
    )


def test_where_the_bars_come_from_is_never_guessed(tmp_path: Path) -> None:
    folder_of_bars(tmp_path)
    (tmp_path / "market.json").write_text('{"source": "dreamt"}')
    with pytest.raises(InputError, match=r"market.json does not say where the bars come from"):
        read_folder(tmp_path, SETTINGS)


def test_nq_can_be_the_traded_one(tmp_path: Path) -> None:
    ts = folder_of_bars(tmp_path)
    bars_at(ts, 2, 17000.0).to_parquet(tmp_path / "nq_5m.parquet")
    inputs = read_folder(tmp_path, settings_with("instrument.symbol=MNQ"))
    assert inputs.bars["close"].min() > 15000
    assert inputs.nq["close"].max() < 8000
