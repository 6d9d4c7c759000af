from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines import dataset as datasets
from pipelines.contracts.base import ContractError
from pipelines.contracts.tables import OutcomeTable, Trades
from pipelines.errors import InputError
from pipelines.features.twelve import FEATURES, compute
from pipelines.settings import Settings, load_settings
from tests.factories import make_trades

SETTINGS = load_settings()


def build(trades: Trades, settings: Settings = SETTINGS) -> datasets.Dataset:
    return datasets.build(trades, compute(trades.signals, settings.features), settings, code_version="abc123")


TRADES = make_trades(60)
DATASET = build(TRADES)


def test_rows_carry_their_own_features_labels_and_interval() -> None:
    assert len(DATASET) == 60
    signals, outcomes = TRADES.signals.frame, TRADES.outcomes.frame
    assert DATASET.trade_ids.tolist() == signals["trade_id"].tolist()
    assert DATASET.feature_names == FEATURES
    np.testing.assert_array_equal(DATASET.features, compute(TRADES.signals, SETTINGS.features))
    assert DATASET.start[5] == pd.Timestamp(signals["decision_time"].iloc[5]).value
    assert DATASET.end[5] == pd.Timestamp(outcomes["exit_time"].iloc[5]).as_unit("ns").value
    np.testing.assert_array_equal(DATASET.target("realized_r"), outcomes["realized_r"])
    np.testing.assert_array_equal(DATASET.targets["realized_r"], outcomes["realized_r"])
    np.testing.assert_array_equal(DATASET.side, np.where(signals["battle_navale.direction"] == "LONG", 1.0, -1.0))


def test_the_order_of_the_input_does_not_matter() -> None:
    again = build(TRADES.take(np.random.default_rng(1).permutation(60)))
    assert again.content_hash == DATASET.content_hash
    assert (np.diff(again.start) >= 0).all()


def test_every_value_enters_the_hash() -> None:
    for column in DATASET.frame.columns:
        changed = DATASET.frame.copy()
        value = changed.loc[7, column]
        changed.loc[7, column] = (
            value + "x" if isinstance(value, str) else value + (pd.Timedelta("1us") if isinstance(value, pd.Timestamp) else 0.001)
        )
        assert datasets.content_hash(changed) != DATASET.content_hash, column


def test_the_hash_is_of_values_and_not_of_files(tmp_path: Path) -> None:
    datasets.write(DATASET, tmp_path)
    back = datasets.read(tmp_path)
    assert back.content_hash == DATASET.content_hash == datasets.content_hash(back.frame)
    assert back.card == DATASET.card
    pd.testing.assert_frame_equal(back.frame, DATASET.frame)
    first = (tmp_path / "dataset.parquet").read_bytes(), (tmp_path / "card.json").read_bytes()
    datasets.write(build(TRADES), tmp_path)
    assert first == ((tmp_path / "dataset.parquet").read_bytes(), (tmp_path / "card.json").read_bytes())


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
    other = build(TRADES, load_settings(overrides=["features.spread_full_ticks=5.0"]))
    assert other.card["parameters_hash"] != card["parameters_hash"]
    assert other.content_hash != DATASET.content_hash


def test_a_trading_day_begins_at_eighteen_new_york() -> None:
    frame = DATASET.frame.head(4).copy()
    # Winter: 18:00 New York is 23:00 UTC. Summer: 22:00 UTC.
    moments = ["2024-01-04T22:59:00Z", "2024-01-04T23:00:00Z", "2024-07-01T21:59:00Z", "2024-07-01T22:00:00Z"]
    frame["decision_time"] = pd.to_datetime(moments).astype("datetime64[us, UTC]")
    days = pd.to_datetime(datasets.Dataset(frame, {}).trading_days, unit="D")
    assert [f"{day:%m-%d}" for day in days] == ["01-04", "01-05", "07-01", "07-02"]


def test_missing_features_stay_and_are_counted() -> None:
    features = compute(TRADES.signals, SETTINGS.features)
    features[:15, 2] = np.nan
    built = datasets.build(TRADES, features, SETTINGS, code_version="abc")
    assert len(built) == 60
    assert built.card["missing_share"][FEATURES[2]] == 0.25


def test_no_trades_make_an_empty_dataset() -> None:
    empty = build(TRADES.take(np.zeros(60, dtype=bool)))
    assert len(empty) == 0
    assert empty.card["first_decision"] is None
    assert empty.features.shape == (0, 12)


def test_what_breaks_the_schema_is_refused() -> None:
    features = compute(TRADES.signals, SETTINGS.features)
    bad = features.copy()
    bad[3, 0] = 1.7
    with pytest.raises(ContractError, match=r"feature.vwap_trend_signal: 1.7 fails in_range"):
        datasets.build(TRADES, bad, SETTINGS, code_version="abc")
    twice = TRADES.take(np.array([0, 1, 1]))
    with pytest.raises(ContractError, match="trade_id"):
        datasets.build(twice, features[[0, 1, 1]], SETTINGS, code_version="abc")
    early = TRADES.outcomes.frame.assign(exit_time=TRADES.signals.frame["decision_time"] - pd.Timedelta(minutes=1))
    with pytest.raises(ContractError, match="exit_time >= decision_time"):
        datasets.build(Trades(TRADES.signals, OutcomeTable(early)), features, SETTINGS, code_version="abc")
    with pytest.raises(ValueError, match=r"features \(60, 3\) must be \(60, 12\)"):
        datasets.build(TRADES, features[:, :3], SETTINGS, code_version="abc")


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
    with pytest.raises(InputError, match=r"has content hash .* as its card says"):
        datasets.read(tmp_path)
