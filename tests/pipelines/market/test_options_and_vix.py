from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from pipelines.market.calendar import unix_seconds
from pipelines.market.options import black_scholes_gamma, levels_asof, levels_from_chain, zero_gamma
from pipelines.market.vix import vix_asof
from pipelines.settings import Options, load_settings
from tests.pipelines.market.samples import utc

SETTINGS: Options = load_settings().options
ASOF = "2025-05-01 15:00"


def chain(rows: list[tuple[float, str, float, float]], spot: float = 100.0, asof: str = ASOF, expiry: str = "2025-05-30") -> pd.DataFrame:
    """Rows of (strike, type, gamma, open interest)."""
    frame = pd.DataFrame(rows, columns=["strike", "type", "gamma", "open_interest"])
    frame["ts"] = utc(asof)
    frame["expiry"] = pd.Timestamp(expiry)
    return frame.assign(iv=0.2, volume=frame["open_interest"] / 10, spot=spot)


def test_levels_by_hand() -> None:
    toy = chain(
        [
            (95, "C", 0.09, 1000),  # below spot: no call wall
            (105, "C", 0.02, 1000),
            (110, "C", 0.01, 3000),  # gamma * interest 30: the call wall
            (110, "C", 0.50, 0),
            (90, "P", 0.02, 2000),  # 40: the put wall
            (95, "P", 0.03, 1000),
            (105, "P", 0.05, 5000),  # above spot: no put wall
            (98, "P", 9.00, 9),  # fewer than 10 contracts: ignored
        ]
    )
    (row,) = levels_from_chain(toy, SETTINGS).to_dict("records")
    assert (row["call_wall"], row["put_wall"], row["spot"]) == (110.0, 90.0, 100.0)
    per_gamma = 100 * 100.0**2 * 0.01  # multiplier, spot squared, one percent
    assert row["net_gamma"] == pytest.approx((90 + 20 + 30 - 40 - 30 - 250) * per_gamma / 1e9)
    assert row["total_gamma_exposure"] == pytest.approx((90 + 20 + 30 + 40 + 30 + 250) * per_gamma)
    assert (row["call_oi"], row["put_oi"]) == (5000, 8009)
    assert row["put_call_ratio"] == pytest.approx(8009 / 5000)
    assert row["put_call_volume_ratio"] == pytest.approx(8009 / 5000)
    assert row["asof"] == utc(ASOF)


def test_a_wall_adds_its_expiries_and_may_be_absent() -> None:
    near, far = chain([(101, "C", 0.03, 100), (105, "C", 0.02, 100)]), chain([(105, "C", 0.02, 100)], expiry="2025-06-20")
    (row,) = levels_from_chain(pd.concat([near, far], ignore_index=True), SETTINGS).to_dict("records")
    assert row["call_wall"] == 105.0
    for name in ("put_wall", "gamma_flip"):
        assert math.isnan(row[name])
    assert row["put_call_ratio"] == 0.0


def test_each_time_has_its_row() -> None:
    late, early = chain([(105, "C", 0.02, 100)], asof="2025-05-02 15:00"), chain([(104, "C", 0.02, 100)])
    levels = levels_from_chain(pd.concat([late, early], ignore_index=True), SETTINGS)
    assert levels["call_wall"].tolist() == [104.0, 105.0]
    assert levels["asof"].is_monotonic_increasing


def price(spot: float, strike: float, years: float, iv: float, rate: float) -> float:
    def normal(x: float) -> float:
        return 0.5 * (1 + math.erf(x / math.sqrt(2)))

    d1 = (math.log(spot / strike) + (rate + iv**2 / 2) * years) / (iv * math.sqrt(years))
    return spot * normal(d1) - strike * math.exp(-rate * years) * normal(d1 - iv * math.sqrt(years))


def test_gamma_is_the_second_derivative_of_the_price() -> None:
    for spot, strike, years, iv in ((100.0, 105.0, 0.1, 0.2), (90.0, 100.0, 1.0, 0.4), (120.0, 80.0, 0.3, 0.9)):
        step = 0.02
        numeric = sum(weight * price(spot + k * step, strike, years, iv, 0.04) for k, weight in ((-1, 1), (0, -2), (1, 1))) / step**2
        found = black_scholes_gamma(*(np.array([value]) for value in (spot, strike, years, iv)), 0.04)
        assert found[0] == pytest.approx(numeric, rel=1e-3)


def test_zero_gamma_is_where_the_repriced_net_gamma_vanishes() -> None:
    toy = chain([(106, "C", 0.02, 1000), (94, "P", 0.02, 1000)])
    interest = np.array([1000.0, -1000.0])
    flip = zero_gamma(toy, interest, 100.0, SETTINGS)
    assert 94 < flip < 106
    years = (unix_seconds(pd.DatetimeIndex([pd.Timestamp("2025-05-30 16:00", tz="America/New_York")]))[0] - unix_seconds(toy["ts"])[0]) / (
        365 * 86400
    )
    strike, iv = np.array([106.0, 94.0]), np.full(2, 0.2)
    net = [(black_scholes_gamma(np.array([s]), strike, np.full(2, years), iv, SETTINGS.rate) * interest).sum() for s in (94.0, flip, 106.0)]
    assert abs(net[1]) < 0.01 * min(abs(net[0]), abs(net[2]))
    assert net[0] < 0 < net[2]


def test_expired_and_flat_options_have_no_zero_gamma() -> None:
    assert math.isnan(zero_gamma(chain([(106, "C", 0.02, 1000)], expiry="2025-04-30"), np.array([1000.0]), 100.0, SETTINGS))
    assert math.isnan(zero_gamma(chain([(106, "C", 0.02, 1000)]), np.array([1000.0]), 100.0, SETTINGS))


@pytest.mark.parametrize("hours", [1.0, 0.25, 0.02])
def test_gamma_that_underflows_to_zero_is_no_crossing(hours: float) -> None:
    close = pd.Timestamp("2025-05-01 16:00", tz="America/New_York").tz_convert("UTC")
    strikes = range(380, 401)
    toy = chain([(s, "C", 0.02, 1000) for s in strikes] + [(s, "P", 0.02, 100) for s in strikes], spot=390.0, expiry="2025-05-01")
    toy["ts"] = close - pd.Timedelta(hours=hours)
    interest = np.where(toy["type"] == "C", 1000.0, -100.0)
    assert math.isnan(zero_gamma(toy, interest, 390.0, SETTINGS))


def test_a_zero_between_opposite_signs_is_a_crossing() -> None:
    toy = chain([(395, "C", 0.02, 100), (385, "P", 0.02, 100)], spot=390.0, expiry="2025-05-01")
    toy["ts"] = pd.Timestamp("2025-05-01 15:59", tz="America/New_York").tz_convert("UTC")
    # A minute before expiry gamma is zero but at the strikes: the sign changes somewhere between them.
    assert 385.0 < zero_gamma(toy, np.array([100.0, -100.0]), 390.0, SETTINGS) < 395.0


def test_an_expired_contract_counts_in_no_wall_and_no_gamma() -> None:
    alive = chain([(105, "C", 0.02, 100), (95, "P", 0.02, 100)])
    expired = chain([(110, "C", 0.09, 5000), (90, "P", 0.09, 5000)], expiry="2025-04-30")
    same_day = chain([(111, "C", 0.09, 5000)], expiry="2025-05-01")  # 15:00 UTC is 11:00 New York: still trading
    (row,) = levels_from_chain(pd.concat([alive, expired], ignore_index=True), SETTINGS).to_dict("records")
    (expected,) = levels_from_chain(alive, SETTINGS).to_dict("records")
    of_open_interest = [name for name in row if name not in ("asof", "call_volume", "put_volume", "put_call_volume_ratio")]
    assert [row[name] for name in of_open_interest] == pytest.approx([expected[name] for name in of_open_interest], nan_ok=True)
    assert row["call_volume"] == 510.0  # what was traded today was traded
    assert levels_from_chain(pd.concat([alive, same_day], ignore_index=True), SETTINGS)["call_wall"].tolist() == [111.0]


def test_levels_are_joined_as_of_their_time_and_converted_then() -> None:
    end = unix_seconds(
        pd.DatetimeIndex(["2025-05-01 14:55", "2025-05-01 15:00", "2025-05-01 15:05", "2025-05-02 15:00"]).tz_localize("UTC")
    )
    levels = levels_from_chain(chain([(105, "C", 0.02, 100), (90, "P", 0.02, 100)], spot=100.0, asof="2025-05-01 15:02"), SETTINGS)
    close, offset = np.array([900.0, 1000.0, 2000.0, 3000.0]), np.array([0.0, 0.0, 0.0, 7.0])
    found = levels_asof(levels, end, close, offset)
    # At 15:02 the last closed bar is that of 15:00: ten futures points to one of the underlying.
    np.testing.assert_allclose(found["call_wall"], [np.nan, np.nan, 1050.0, 1057.0])
    np.testing.assert_allclose(found["put_wall"], [np.nan, np.nan, 900.0, 907.0])
    assert np.isnan(found["net_gamma"][:2]).all()
    assert found["net_gamma"][2] == found["net_gamma"][3] == pytest.approx(0.0)
    times = pd.DatetimeIndex(found["options_asof"])
    assert times.isna().tolist() == [True, True, False, False]
    assert times[3] == utc("2025-05-01 15:02")


def test_levels_from_before_the_first_bar_cannot_be_converted() -> None:
    end = unix_seconds(pd.DatetimeIndex(["2025-05-01 15:05"]).tz_localize("UTC"))
    found = levels_asof(levels_from_chain(chain([(105, "C", 0.02, 100)]), SETTINGS), end, np.array([1000.0]), np.zeros(1))
    assert np.isnan(found["call_wall"][0])
    assert found["call_oi"][0] == 100.0


def test_the_vix_of_a_day_is_not_known_before_a_quarter_past_four() -> None:
    known = pd.DatetimeIndex(["2024-03-07 16:15", "2024-03-08 16:15"]).tz_localize("America/New_York").tz_convert("UTC")
    vix = pd.DataFrame({"known_at": known, "close": [14.0, 15.0]})
    times = [
        "2024-03-07 16:10",
        "2024-03-07 16:15",
        "2024-03-08 09:30",
        "2024-03-08 16:10",
        "2024-03-08 16:15",
        "2024-03-15 17:15",
        "2024-03-15 17:20",
    ]
    end = unix_seconds(pd.DatetimeIndex(times).tz_localize("America/New_York"))
    # The clocks change on 10 March: seven days after 16:15 it is 17:15.
    np.testing.assert_array_equal(vix_asof(vix, end, 7.0), [np.nan, 14.0, 14.0, 14.0, 15.0, 15.0, np.nan])
    assert np.isnan(vix_asof(None, end, 7.0)).all()
