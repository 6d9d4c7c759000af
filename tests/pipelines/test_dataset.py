from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines import dataset as datasets
from pipelines.contracts.base import ContractError
from pipelines.contracts.tables import OutcomeTable, Trades
from pipelines.errors import InputError
from pipelines.features.twelve import FEATURES, compute
from pipelines.features.window import CHANNELS, WINDOW_VERSION, compute_windows
from pipelines.settings import Settings, load_settings
from tests.factories import make_trades

SETTINGS = load_settings()


def build(trades: Trades, settings: Settings = SETTINGS) -> datasets.Dataset:
    return build_of(trades, compute(trades.signals, settings.features), compute_windows(trades.signals), settings)


def build_of(trades: Trades, features: np.ndarray, windows: np.ndarray, settings: Settings = SETTINGS) -> datasets.Dataset:
    return datasets.build(trades, features, windows, settings, code_version="abc123")


TRADES = make_trades(60)
FEATURES_OF_TRADES = compute(TRADES.signals, SETTINGS.features)
WINDOWS = compute_windows(TRADES.signals)
DATASET = build(TRADES)


def test_rows_carry_their_own_features_labels_and_interval() -> None:
    assert len(DATASET) == 60
    signals, outcomes = TRADES.signals.frame, TRADES.outcomes.frame
    assert DATASET.trade_ids.tolist() == signals["trade_id"].tolist()
    assert DATASET.feature_names == FEATURES
    np.testing.assert_array_equal(DATASET.features, FEATURES_OF_TRADES)
    np.testing.assert_array_equal(DATASET.windows, WINDOWS)
    assert DATASET.start[5] == pd.Timestamp(signals["decision_time"].iloc[5]).value
    assert DATASET.end[5] == pd.Timestamp(outcomes["exit_time"].iloc[5]).as_unit("ns").value
    np.testing.assert_array_equal(DATASET.target("realized_r"), outcomes["realized_r"])
    np.testing.assert_array_equal(DATASET.targets["realized_r"], outcomes["realized_r"])
    np.testing.assert_array_equal(DATASET.side, np.where(signals["battle_navale.direction"] == "LONG", 1.0, -1.0))


def test_the_order_of_the_input_does_not_matter() -> None:
    order = np.random.default_rng(1).permutation(60)
    again = build(TRADES.take(order))
    assert again.content_hash == DATASET.content_hash
    np.testing.assert_array_equal(again.windows, DATASET.windows)
    windows_of_others = build_of(TRADES.take(order), FEATURES_OF_TRADES[order], WINDOWS)
    assert windows_of_others.content_hash != DATASET.content_hash
    assert (np.diff(again.start) >= 0).all()


def test_every_value_enters_the_hash() -> None:
    for column in DATASET.frame.columns:
        changed = DATASET.frame.copy()
        value = changed.loc[7, column]
        changed.loc[7, column] = (
            value + "x" if isinstance(value, str) else value + (pd.Timedelta("1us") if isinstance(value, pd.Timestamp) else 0.001)
        )
        assert datasets.content_hash(changed, DATASET.windows) != DATASET.content_hash, column
    for place in [(0, 0, 0), (7, 31, 2), (59, 31, 5)]:
        windows = DATASET.windows.copy()
        windows[place] = np.nextafter(windows[place], np.float32(30))
        assert datasets.content_hash(DATASET.frame, windows) != DATASET.content_hash, place


def test_the_hash_does_not_depend_on_how_the_windows_lie_in_memory() -> None:
    zero = np.argwhere(DATASET.windows == 0)[0]
    negative = DATASET.windows.copy()
    negative[tuple(zero)] = -0.0
    for same in (np.asfortranarray(DATASET.windows), DATASET.windows.astype(">f4"), negative):
        assert datasets.content_hash(DATASET.frame, same) == DATASET.content_hash


def test_the_matrix_holds_the_features_and_then_each_window_bar_by_bar() -> None:
    assert DATASET.matrix(windowed=False) is DATASET.features
    whole = DATASET.matrix(windowed=True)
    assert (whole.shape, whole.dtype) == ((60, 12 + 32 * len(CHANNELS)), np.float64)
    np.testing.assert_array_equal(whole[:, :12], DATASET.features)
    np.testing.assert_array_equal(whole[9, 12 : 12 + len(CHANNELS)], DATASET.windows[9, 0])
    np.testing.assert_array_equal(whole[:, 12:].reshape(60, 32, len(CHANNELS)), DATASET.windows)
    assert DATASET.matrix(windowed=True) is whole


def test_trades_without_a_label_stay_and_are_told_apart() -> None:
    outcomes = TRADES.outcomes.frame.copy()
    outcomes.loc[[3, 58], "bars_to_mfe"] = np.nan
    built = build(Trades(TRADES.signals, OutcomeTable(outcomes)))
    assert len(built) == 60
    assert np.flatnonzero(np.isnan(built.target("exit_timing"))).tolist() == [3, 58]
    assert not np.isnan(built.target("profitability")).any()


def test_the_hash_is_of_values_and_not_of_files(tmp_path: Path) -> None:
    datasets.write(DATASET, tmp_path)
    back = datasets.read(tmp_path)
    assert back.content_hash == DATASET.content_hash == datasets.content_hash(back.frame, back.windows)
    assert back.card == DATASET.card
    pd.testing.assert_frame_equal(back.frame, DATASET.frame)
    np.testing.assert_array_equal(back.windows, DATASET.windows)
    assert back.windows.dtype == np.float32
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(first) == {"dataset.parquet", "windows.npy", "card.json"}
    datasets.write(build(TRADES), tmp_path)
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_the_card_says_what_the_data_are() -> None:
    card = json.loads(json.dumps(DATASET.card))
    assert card["rows"] == 60
    assert card["sources"] == {"simulated": 60}
    assert card["symbols"] == {"ES": 60}
    assert card["first_decision"] == "2024-01-02T15:00:00+00:00"
    assert card["inputs_hash"] == TRADES.content_hash()
    assert card["code_version"] == "abc123"
    assert card["positive_share"]["profitability"] == pytest.approx(DATASET.target("profitability").mean())
    assert card["missing_share"]["session_time"] == 0.0
    assert card["window_channels"] == list(CHANNELS)
    assert card["window_version"] == WINDOW_VERSION
    other = build(TRADES, load_settings(overrides=["features.spread_full_ticks=5.0"]))
    assert other.card["parameters_hash"] != card["parameters_hash"]
    assert other.content_hash != DATASET.content_hash


def test_a_trading_day_begins_at_eighteen_new_york() -> None:
    frame = DATASET.frame.head(4).copy()
    # Winter: 18:00 New York is 23:00 UTC. Summer: 22:00 UTC.
    moments = ["2024-01-04T22:59:00Z", "2024-01-04T23:00:00Z", "2024-07-01T21:59:00Z", "2024-07-01T22:00:00Z"]
    frame["decision_time"] = pd.to_datetime(moments).astype("datetime64[us, UTC]")
    days = pd.to_datetime(datasets.Dataset(frame, {}, DATASET.windows[:4]).trading_days, unit="D")
    assert [f"{day:%m-%d}" for day in days] == ["01-04", "01-05", "07-01", "07-02"]


def test_missing_features_stay_and_are_counted() -> None:
    features = FEATURES_OF_TRADES.copy()
    features[:15, 2] = np.nan
    built = build_of(TRADES, features, WINDOWS)
    assert len(built) == 60
    assert built.card["missing_share"][FEATURES[2]] == 0.25


def test_no_trades_make_an_empty_dataset(tmp_path: Path) -> None:
    empty = build(TRADES.take(np.zeros(60, dtype=bool)))
    assert len(empty) == 0
    assert empty.card["first_decision"] is None
    assert empty.matrix(windowed=False).shape == (0, 12)
    assert empty.matrix(windowed=True).shape == (0, 12 + 32 * len(CHANNELS))
    datasets.write(empty, tmp_path)
    assert datasets.read(tmp_path).windows.shape == (0, 32, len(CHANNELS))


def test_what_breaks_the_schema_is_refused() -> None:
    features = FEATURES_OF_TRADES
    bad = features.copy()
    bad[3, 0] = 1.7
    with pytest.raises(ContractError, match=r"feature.vwap_trend_signal: 1.7 fails in_range"):
        build_of(TRADES, bad, WINDOWS)
    twice = TRADES.take(np.array([0, 1, 1]))
    with pytest.raises(ContractError, match="trade_id"):
        build_of(twice, features[[0, 1, 1]], WINDOWS[[0, 1, 1]])
    early = TRADES.outcomes.frame.assign(exit_time=TRADES.signals.frame["decision_time"] - pd.Timedelta(minutes=1))
    with pytest.raises(ContractError, match="exit_time >= decision_time"):
        build_of(Trades(TRADES.signals, OutcomeTable(early)), features, WINDOWS)
    with pytest.raises(ValueError, match=r"features \(60, 3\) must be \(60, 12\)"):
        build_of(TRADES, features[:, :3], WINDOWS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_windows_that_are_not_finite_are_refused(value: float) -> None:
    windows = WINDOWS.copy()
    windows[7, 30, 4] = value
    name = TRADES.signals.frame["trade_id"].iloc[7]
    message = (
        rf"window of trade {name}: volume of bar 30 is {re.escape(str(value))}; 1 value.*; expected finite float32 .*; remedy: compute"
    )
    with pytest.raises(ContractError, match=message):
        build_of(TRADES, FEATURES_OF_TRADES, windows)


def test_windows_of_another_shape_are_refused() -> None:
    for wrong in (WINDOWS[:59], WINDOWS[:, 1:], WINDOWS[:, :, :5]):
        with pytest.raises(ValueError, match=rf"windows {re.escape(str(wrong.shape))} must be \(60, 32, 6\)"):
            build_of(TRADES, FEATURES_OF_TRADES, wrong)
        with pytest.raises(ValueError, match=r"must be \(60, 32, 6\) of float32"):
            datasets.Dataset(DATASET.frame, DATASET.card, wrong.astype(np.float32))
    with pytest.raises(ValueError, match=r"of float64 must be \(60, 32, 6\) of float32"):
        datasets.Dataset(DATASET.frame, DATASET.card, WINDOWS)


def test_a_time_that_does_not_fit_into_nanoseconds_is_refused() -> None:
    """In int64 it would come out negative: an exit before its decision."""
    late = TRADES.outcomes.frame.copy()
    late.loc[7, "exit_time"] = pd.Timestamp("9998-01-02T15:00:00Z")
    with pytest.raises(ContractError, match=r"exit_time: Out of bounds .*9998-01-02 15:00:00; expected years 2007 to 2098; remedy: take"):
        build(Trades(TRADES.signals, OutcomeTable(late)))


def test_a_damaged_or_foreign_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist.*run the dataset stage again"):
        datasets.read(tmp_path)
    datasets.write(DATASET, tmp_path)
    table = tmp_path / "dataset.parquet"
    table.write_bytes(table.read_bytes()[:500])
    with pytest.raises(InputError, match="cannot be read"):
        datasets.read(tmp_path)
    datasets.write(build(TRADES.take(np.arange(50))), tmp_path / "other")
    table.write_bytes((tmp_path / "other" / "dataset.parquet").read_bytes())
    with pytest.raises(InputError, match=r"have content hash .* as the card says; remedy: run the dataset stage again"):
        datasets.read(tmp_path)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    datasets.write(DATASET, tmp_path)
    return tmp_path


def test_windows_that_are_gone_are_missed(written: Path) -> None:
    (written / "windows.npy").unlink()
    with pytest.raises(InputError, match=r"windows.npy does not exist; remedy: run the dataset stage again"):
        datasets.read(written)


@pytest.mark.parametrize("length", [0, 3, 70, 128, 5000])
def test_windows_that_are_cut_off_are_refused(written: Path, length: int) -> None:
    path = written / "windows.npy"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"cannot be read: windows.npy: .*; remedy: run the dataset stage again"):
        datasets.read(written)


def problem_of(folder: Path) -> str:
    """What `read` complains about; nothing where it found the dataset as it was written."""
    try:
        back = datasets.read(folder)
    except InputError as error:
        return str(error)
    return "" if back.windows.tobytes() == DATASET.windows.tobytes() else "wrong windows passed"


def test_a_damaged_byte_of_the_windows_never_passes_for_data(written: Path) -> None:
    """NumPy answers a damaged header with many kinds of errors; its padding may change without harm."""
    path = written / "windows.npy"
    whole = path.read_bytes()
    header, values = range(0, 128), (128, len(whole) // 2, len(whole) - 1)

    def problem(position: int, value: int) -> str:
        path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
        return problem_of(written)

    in_header = {problem(position, value) for position in header for value in b"9('#\xff"}
    assert len(in_header) > 10
    assert all(text.endswith("remedy: run the dataset stage again") for text in in_header if text)
    for position in values:
        assert "have content hash" in problem(position, whole[position] ^ 1)


def test_windows_of_another_dataset_are_refused(written: Path) -> None:
    other = TRADES.take(np.arange(60))
    windows = WINDOWS[::-1]
    datasets.write(build_of(other, FEATURES_OF_TRADES, windows), written / "other")
    (written / "windows.npy").write_bytes((written / "other" / "windows.npy").read_bytes())
    with pytest.raises(InputError, match=r"dataset.parquet and windows.npy in .* have content hash"):
        datasets.read(written)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (WINDOWS[:50].astype(np.float32), r"\(50, 32, 6\) of float32"),
        (WINDOWS[:, :, :5].astype(np.float32), r"\(60, 32, 5\) of float32"),
        (WINDOWS, r"\(60, 32, 6\) of float64"),
        (WINDOWS.astype(">f4"), r"\(60, 32, 6\) of >f4"),
    ],
)
def test_windows_of_another_form_are_refused(written: Path, content: np.ndarray, found: str) -> None:
    np.save(written / "windows.npy", content)
    with pytest.raises(InputError, match=rf"windows.npy has shape {found}; expected \(60, 32, 6\) of float32; remedy: run"):
        datasets.read(written)


def test_windows_are_never_unpickled(written: Path) -> None:
    np.save(written / "windows.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"windows.npy: .*allow_pickle=False"):
        datasets.read(written)
    with (written / "windows.npy").open("wb") as stream:
        np.savez(stream, windows=WINDOWS)
    with pytest.raises(InputError, match=r"windows.npy is an archive, not an array"):
        datasets.read(written)


@pytest.mark.parametrize("text", ["[]", "{}", '{"rows": 60}'])
def test_a_card_of_something_else_is_refused(written: Path, text: str) -> None:
    (written / "card.json").write_text(text)
    with pytest.raises(InputError, match=r"card.json is not the card of a dataset; expected the keys rows and content_hash; remedy: run"):
        datasets.read(written)


def test_a_write_that_breaks_off_leaves_no_dataset_that_passes_for_whole(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card comes last: new files under an old card do not fit it."""
    newer = build_of(TRADES, FEATURES_OF_TRADES, WINDOWS[::-1])

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(datasets, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        datasets.write(newer, written)
    with pytest.raises(InputError, match="have content hash"):
        datasets.read(written)
