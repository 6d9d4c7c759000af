from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.contracts.signal import MarketState
from pipelines.errors import InputError
from pipelines.market.bars import MAX_SPREAD_TICKS, bar_minutes, read_bars
from pipelines.settings import load_settings
from tests.pipelines.market.samples import bars_at, new_york_range, utc

INSTRUMENT, RATIO = load_settings().instrument, load_settings().market.max_median_ratio
COUNT = 60


def good() -> pd.DataFrame:
    return bars_at(pd.date_range("2024-01-10 15:00", periods=COUNT, freq="5min", tz="UTC"), 1)


def parquet(folder: Path, frame: pd.DataFrame, name: str = "es_5m.parquet") -> Path:
    path = folder / name
    frame.to_parquet(path)
    return path


def csv(folder: Path, frame: pd.DataFrame, name: str = "es_5m.csv") -> Path:
    path = folder / name
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("write", [parquet, csv])
def test_good_bars_come_back_as_they_are(tmp_path: Path, write) -> None:
    frame = good().assign(
        contract="ESH4", adj=12.5, roll=np.arange(COUNT) == 7, bid_volume=3.0, ask_volume=4.0, spread_ticks=1.0, extra="x"
    )
    bars, quarantined, notes = read_bars(write(tmp_path, frame), INSTRUMENT, RATIO)
    expected = frame.drop(columns="extra").assign(contract=frame["contract"].astype("str"))
    pd.testing.assert_frame_equal(bars[expected.columns], expected)
    assert (len(quarantined), notes) == (0, ())


def test_other_zones_become_utc(tmp_path: Path) -> None:
    frame = good().assign(ts=good()["ts"].dt.tz_convert("America/New_York"))
    for path in (parquet(tmp_path, frame), csv(tmp_path, frame)):
        pd.testing.assert_series_equal(read_bars(path, INSTRUMENT, RATIO)[0]["ts"], good()["ts"])


def test_unsorted_bars_are_sorted_with_a_note(tmp_path: Path) -> None:
    bars, quarantined, notes = read_bars(parquet(tmp_path, good().iloc[::-1]), INSTRUMENT, RATIO)
    pd.testing.assert_frame_equal(bars, good())
    assert notes == ("es_5m.parquet: the bars were not in order of time; sorted",)
    assert quarantined.empty


def test_exact_duplicates_are_dropped_and_counted(tmp_path: Path) -> None:
    doubled = pd.concat([good(), good().iloc[[3, 9, 9]]], ignore_index=True)
    bars, quarantined, notes = read_bars(csv(tmp_path, doubled), INSTRUMENT, RATIO)
    pd.testing.assert_frame_equal(bars, good())
    assert quarantined.empty
    assert "es_5m.csv: 3 exact duplicate row(s) dropped" in notes


def test_different_bars_at_one_time_are_all_put_aside(tmp_path: Path) -> None:
    other = good().iloc[[5]].assign(volume=7.0)
    bars, quarantined, _ = read_bars(parquet(tmp_path, pd.concat([good(), other], ignore_index=True)), INSTRUMENT, RATIO)
    assert len(bars) == COUNT - 1
    assert quarantined["row"].tolist() == [6, COUNT + 1]
    assert set(quarantined["reason"]) == {"several different bars at one time"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"close": np.nan}, "close is not a finite number"),
        ({"high": np.inf}, "high is not a finite number"),
        ({"volume": np.nan}, "volume is not a finite number"),
        ({"volume": -1.0}, "volume is negative"),
        ({"low": 0.0}, "low is zero or negative"),
        ({"open": -5000.0}, "open is zero or negative"),
        ({"high": 4000.0}, "high is below low"),
        ({"open": 6000.0}, "open is outside low..high"),
        ({"close": 6000.0}, "close is outside low..high"),
        ({"open": 900.0, "high": 901.0, "low": 899.0, "close": 900.0}, "price outside the band 1000..10000"),
        ({"high": 10000.25}, "price outside the band 1000..10000"),
        ({"high": 6000.1}, "high is off the tick grid of 0.25"),
        ({"adj": np.nan}, "adj is not a finite number"),
        ({"spread_ticks": -1.0}, "spread_ticks is negative"),
        ({"adj": 1e300}, "adj is as far from the median adj as a whole price"),
        ({"adj": -6000.0}, "adj is as far from the median adj as a whole price"),
        ({"ts": utc("2024-01-10 15:17:30")}, "ts off the 5-minute grid"),
        ({"ts": utc("2024-01-10 15:15:00.5")}, "ts off the 5-minute grid"),
    ],
)
@pytest.mark.parametrize("write", [parquet, csv])
def test_a_bad_row_goes_to_quarantine_and_the_rest_stays(tmp_path: Path, write, changes: dict, reason: str) -> None:
    frame = good().assign(adj=0.0, spread_ticks=1.0)
    for name, value in changes.items():
        frame.loc[3, name] = value
    bars, quarantined, notes = read_bars(write(tmp_path, frame), INSTRUMENT, RATIO)
    pd.testing.assert_series_equal(bars["ts"], good()["ts"].drop(3).reset_index(drop=True))
    (row,) = quarantined.to_dict("records")
    assert (row["row"], row["reason"], row["file"]) == (4, reason, f"es_5m.{write.__name__}")
    values = json.loads(row["values"])
    for name, value in changes.items():
        if name != "ts" and np.isfinite(value):
            assert float(values[name]) == value
    assert f"1 row(s) quarantined: 1 x {reason}" in notes[0]


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ("9999-12-31T00:00:00Z", "ts is not a time"),
        ("5000-01-01T00:00:00Z", "ts is not a time"),
        ("1600-01-01T00:00:00Z", "ts is not a time"),
        ("2250-01-01T00:00:00Z", "ts outside the years 2007 to 2098"),
        ("1990-01-01T00:00:00Z", "ts outside the years 2007 to 2098"),
    ],
)
def test_a_time_of_an_impossible_year_is_put_aside(tmp_path: Path, time: str, reason: str) -> None:
    frame = good().astype({"ts": "object"})
    frame["ts"] = [stamp.isoformat() for stamp in good()["ts"]]
    frame.loc[3, "ts"] = time
    typed = frame.assign(ts=pd.to_datetime(frame["ts"], utc=True, format="ISO8601").astype("datetime64[us, UTC]"))
    for path in (csv(tmp_path, frame), parquet(tmp_path, typed)):
        bars, quarantined, _ = read_bars(path, INSTRUMENT, RATIO)
        assert len(bars) == COUNT - 1
        assert (quarantined["row"].tolist(), quarantined["reason"].tolist()) == ([4], [reason])
        assert time[:10] in quarantined["values"][0]


def test_the_index_that_pandas_saved_plays_no_part(tmp_path: Path) -> None:
    frame = good()
    other = frame.iloc[[5]].assign(volume=7.0)
    january = pd.concat([frame.iloc[:30], frame.iloc[30:].reset_index(drop=True), other])
    bars, quarantined, _ = read_bars(parquet(tmp_path, january), INSTRUMENT, RATIO)
    pd.testing.assert_frame_equal(bars, frame.drop(5).reset_index(drop=True))
    assert quarantined["row"].tolist() == [6, COUNT + 1]

    frame.loc[9, "close"] = np.nan
    gappy = frame.iloc[[*range(3), *range(8, COUNT)]]
    assert read_bars(parquet(tmp_path, gappy), INSTRUMENT, RATIO)[1]["row"].tolist() == [5]
    pd.testing.assert_frame_equal(read_bars(parquet(tmp_path, good().set_index("ts")), INSTRUMENT, RATIO)[0], good())


def test_a_refused_row_may_hold_any_value(tmp_path: Path) -> None:
    frame = good().assign(contract=b"ESH4")
    for name in ("open", "high", "low", "close"):
        frame[name] = frame[name].map(lambda value: Decimal(f"{value:.2f}"))
    frame.loc[3, "high"] = Decimal("4000.00")
    bars, quarantined, _ = read_bars(parquet(tmp_path, frame), INSTRUMENT, RATIO)
    assert len(bars) == COUNT - 1
    values = json.loads(quarantined["values"][0])
    assert values["high"] == "4000.00"
    assert "ESH4" in values["contract"]


def test_a_spread_wider_than_a_signal_can_carry_is_read_as_missing(tmp_path: Path) -> None:
    widest = MarketState.model_fields["spread_ticks"]
    assert f"le={MAX_SPREAD_TICKS}" in repr(widest)
    frame = good().assign(spread_ticks=1.0)
    frame.loc[[3, 4, 5], "spread_ticks"] = [10.0, 10.5, np.inf]
    bars, quarantined, notes = read_bars(parquet(tmp_path, frame), INSTRUMENT, RATIO)
    assert quarantined.empty
    assert notes == ("es_5m.parquet: spread_ticks of 2 row(s) above 10 ticks; read as missing",)
    assert bars.index[bars["spread_ticks"].isna()].tolist() == [4, 5]
    assert bars["spread_ticks"][3] == 10.0


def test_adj_off_the_tick_grid_is_rounded_to_it(tmp_path: Path) -> None:
    frame = good().assign(adj=np.where(np.arange(COUNT) < 30, 41.13, 0.0))
    bars, quarantined, notes = read_bars(parquet(tmp_path, frame), INSTRUMENT, RATIO)
    assert quarantined.empty
    assert bars["adj"].unique().tolist() == [41.25, 0.0]
    assert notes == ("es_5m.parquet: adj of 30 row(s) off the tick grid of 0.25; rounded to it",)


def test_adj_that_makes_prices_negative_is_refused(tmp_path: Path) -> None:
    steps = np.where(np.arange(COUNT) < 20, -3000.0, np.where(np.arange(COUNT) < 40, 0.0, 3000.0))
    message = refused(parquet(tmp_path, good().assign(adj=steps)))
    assert "adj runs from -3000 to 3000, by which prices (from 49" in message
    assert "become negative; expected adj in index points" in message


@pytest.mark.parametrize("price", [1e7, 1e9])
def test_a_price_absurdly_far_from_the_others_is_put_aside_for_every_instrument(tmp_path: Path, price: float) -> None:
    frame = good()
    frame.loc[3, "high"] = price
    frame.loc[7, ["open", "high", "low", "close"]] = 1.0
    for symbol in ("NQ", "MNQ"):
        bars, quarantined, _ = read_bars(parquet(tmp_path, frame), INSTRUMENT.model_copy(update={"symbol": symbol}), RATIO)
        assert len(bars) == COUNT - 2
        assert quarantined["row"].tolist() == [4, 8]
        assert quarantined["reason"].str.startswith("price further than a factor of 10 from the median close 500").all()


def test_text_where_a_number_or_a_time_should_be(tmp_path: Path) -> None:
    frame = good().astype({"ts": "str", "open": "object"})
    frame.loc[3, "open"] = "52o0.25"
    frame.loc[4, "ts"] = "soon"
    bars, quarantined, _ = read_bars(csv(tmp_path, frame), INSTRUMENT, RATIO)
    assert len(bars) == COUNT - 2
    assert quarantined["reason"].tolist() == ["open is not a finite number", "ts is not a time"]
    assert json.loads(quarantined["values"][0])["open"] == "52o0.25"


def test_a_half_written_last_line_is_put_aside(tmp_path: Path) -> None:
    path = csv(tmp_path, good())
    text = path.read_text()
    path.write_text(text[: text.rindex(",") - 2])
    bars, quarantined, _ = read_bars(path, INSTRUMENT, RATIO)
    assert len(bars) == COUNT - 1
    assert quarantined["row"].tolist() == [COUNT]


def test_the_band_is_of_the_s_and_p_only(tmp_path: Path) -> None:
    frame = good()
    for name in ("open", "high", "low", "close"):
        frame[name] += 15000.0
    path = parquet(tmp_path, frame)
    assert len(read_bars(path, INSTRUMENT.model_copy(update={"symbol": "NQ"}), RATIO)[0]) == COUNT
    with pytest.raises(InputError, match=r"60 of 60 rows are bad \(60 x price outside the band 1000..10000\)"):
        read_bars(path, INSTRUMENT, RATIO)


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_bars(path, INSTRUMENT, RATIO)
    return str(caught.value)


def test_a_missing_file_a_folder_and_another_kind_are_refused(tmp_path: Path) -> None:
    assert "does not exist; remedy" in refused(tmp_path / "es_5m.parquet")
    assert "is a folder; expected a Parquet or CSV file" in refused(tmp_path)
    (tmp_path / "bars.xlsx").write_bytes(b"x")
    assert "is of kind '.xlsx'; expected .parquet or .csv" in refused(tmp_path / "bars.xlsx")


@pytest.mark.parametrize("keep", [0, 3, 200, -1, -8])
def test_a_truncated_parquet_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = parquet(tmp_path, good())
    path.write_bytes(path.read_bytes()[:keep])
    message = refused(path)
    assert "cannot be read" in message
    assert "copy or export the file again" in message


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01,\x80\n\x81", b'ts,open\n"2024'])
def test_an_unreadable_csv_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "es_5m.csv"
    path.write_bytes(content)
    assert "cannot be read" in refused(path) or "lacks" in refused(path)


def test_missing_columns_are_named(tmp_path: Path) -> None:
    message = refused(parquet(tmp_path, good().drop(columns=["low", "volume"])))
    assert "lacks low, volume (it has ts, open, high, close); expected the columns ts, open, high, low, close, volume" in message


@pytest.mark.parametrize("write", [parquet, csv])
def test_naive_times_are_refused(tmp_path: Path, write) -> None:
    message = refused(write(tmp_path, good().assign(ts=good()["ts"].dt.tz_localize(None))))
    assert "without a zone" in message
    assert "2024-01-10 15:00:00" in message
    assert "expected UTC times; remedy: write the times in UTC" in message


def test_one_naive_time_among_others_is_named(tmp_path: Path) -> None:
    frame = good().astype({"ts": "str"})
    frame.loc[9, "ts"] = "2024-01-10 15:45:00"
    assert "1 time(s) without a zone in ts (first: '2024-01-10 15:45:00', row 10)" in refused(csv(tmp_path, frame))


def test_numbers_and_dates_are_not_times(tmp_path: Path) -> None:
    assert "ts holds numbers (first: 17" in refused(parquet(tmp_path, good().assign(ts=good()["ts"].astype("int64"))))
    assert "without a zone" in refused(csv(tmp_path, good().assign(ts="2024-01-10")))


def test_mixed_offsets_are_refused(tmp_path: Path) -> None:
    winter, summer = new_york_range("2024-03-08 15:00", "2024-03-08 16:00"), new_york_range("2024-03-11 15:00", "2024-03-11 16:00")
    frame = bars_at(winter.append(summer)).assign(ts=winter.append(summer).tz_convert("America/New_York").map(str))
    message = refused(csv(tmp_path, frame))
    assert "mixes UTC offsets: -0500 (12 rows), -0400 (12 rows); expected one UTC offset" in message


@pytest.mark.parametrize("zone", ["Z", "+00:00", "+0000", "+00"])
def test_all_ways_to_write_utc_are_one_offset(tmp_path: Path, zone: str) -> None:
    frame = good()
    frame["ts"] = frame["ts"].dt.strftime("%Y-%m-%dT%H:%M:%S") + np.where(np.arange(COUNT) % 2, zone, "Z")
    pd.testing.assert_frame_equal(read_bars(csv(tmp_path, frame), INSTRUMENT, RATIO)[0], good())


def test_a_file_that_is_mostly_bad_is_refused(tmp_path: Path) -> None:
    frame = good()
    frame.loc[: COUNT // 2, "low"] = np.nan
    assert "31 of 60 rows are bad (31 x low is not a finite number); expected" in refused(parquet(tmp_path, frame))
    assert "0 of 0 rows are bad; expected at least one valid row" in refused(parquet(tmp_path, good().iloc[:0]))
    assert len(read_bars(parquet(tmp_path, frame.iloc[2:]), INSTRUMENT, RATIO)[0]) == COUNT // 2 - 1


def test_the_length_of_the_bars(tmp_path: Path) -> None:
    minute = bars_at(pd.date_range("2024-01-10 15:00", periods=30, freq="1min", tz="UTC")).drop(index=[4, 5, 11])
    assert bar_minutes(tmp_path, read_bars(parquet(tmp_path, minute), INSTRUMENT, RATIO)[0]["ts"]) == 1
    quarter = bars_at(pd.date_range("2024-01-10 15:00", periods=30, freq="15min", tz="UTC"))
    assert "has bars of 15 minutes; expected bars of 1 or 5 minutes" in refused(parquet(tmp_path, quarter))
    assert "has 1 valid bar(s); expected at least 2" in refused(parquet(tmp_path, good().iloc[:1]))


def test_rolls_without_adjustment_are_told(tmp_path: Path) -> None:
    rolled = good().assign(contract=np.where(np.arange(COUNT) < 30, "ESH4", "ESM4"))
    assert "there is no column adj: levels jump" in read_bars(parquet(tmp_path, rolled), INSTRUMENT, RATIO)[2][0]
    assert read_bars(parquet(tmp_path, rolled.assign(adj=0.0)), INSTRUMENT, RATIO)[2] == ()
