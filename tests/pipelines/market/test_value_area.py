from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.market.value_area import value_areas, volume_clusters

TICK = 0.25


def one_day(bars: list[tuple[float, float, float]]) -> tuple[np.ndarray, ...]:
    low, high, volume = (np.array(part, dtype=np.float64) for part in zip(*bars, strict=True))
    return high, low, volume, np.zeros(len(bars), dtype=np.int64)


def test_by_hand() -> None:
    # After bar 2: 13 at 100.00, 3 at 100.25 and 100.50; 70 % of 19 needs one tick above the POC.
    poc, vah, val = value_areas(*one_day([(100, 100, 10), (100, 100.5, 9)]), TICK, 0.7)
    assert (poc.tolist(), vah.tolist(), val.tolist()) == ([100, 100], [100, 100.25], [100, 100])


def test_an_even_profile_is_symmetric() -> None:
    poc, vah, val = value_areas(*one_day([(100, 101, 5)]), TICK, 0.6)
    assert (poc[0], vah[0], val[0]) == (100.5, 100.75, 100.25)


def test_no_volume_no_level_and_each_day_starts_anew() -> None:
    high, low, volume, day = one_day([(100, 101, 0), (90, 90, 4), (200, 200, 0), (100, 100, 1)])
    day[2:] = 1
    poc, vah, val = value_areas(high, low, volume, day, TICK, 0.7)
    for levels in (poc, vah, val):
        np.testing.assert_array_equal(levels, [np.nan, 90, np.nan, 100])


def reference(bars: list[tuple[int, int, int]], share: Fraction) -> list[tuple[int, int, int] | None]:
    """The same rules with exact fractions and plain dictionaries, in ticks."""
    profile: dict[int, Fraction] = defaultdict(Fraction)
    result: list[tuple[int, int, int] | None] = []
    for low, high, volume in bars:
        for level in range(low, high + 1) if volume else ():
            profile[level] += Fraction(volume, high - low + 1)
        total = sum(profile.values())
        if not total:
            result.append(None)
            continue
        bottom, top = min(profile), max(profile)
        middle = Fraction(bottom + top, 2)
        poc = min(profile, key=lambda level: (-profile[level], abs(level - middle), level))
        inside = {poc}
        while sum(profile[level] for level in inside) < share * total:
            up, down = max(inside) + 1, min(inside) - 1
            above = profile.get(up, Fraction(0)) if up <= top else Fraction(-1)
            below = profile.get(down, Fraction(0)) if down >= bottom else Fraction(-1)
            if above == below:
                inside.add(up if (up - poc) <= (poc - down) else down)
            else:
                inside.add(up if above > below else down)
        result.append((poc, max(inside), min(inside)))
    return result


# 60 divides evenly over up to 6 ticks, so that floating point holds every volume exactly.
BAR = st.tuples(st.integers(0, 25), st.integers(0, 5), st.integers(0, 6).map(lambda k: 60 * k))


@settings(max_examples=60, deadline=None)
@given(st.lists(BAR, min_size=1, max_size=25), st.sampled_from([Fraction(1, 2), Fraction(3, 4)]))
def test_against_the_reference(spans: list[tuple[int, int, int]], share: Fraction) -> None:
    bars = [(400 + low, 400 + low + width, volume) for low, width, volume in spans]
    levels = value_areas(*one_day([(low * TICK, high * TICK, volume) for low, high, volume in bars]), TICK, float(share))
    for t, expected in enumerate(reference(bars, share)):
        found = tuple(part[t] / TICK for part in levels)
        if expected is None:
            assert np.isnan(found).all()
        else:
            assert found == expected


def test_clusters_are_the_highest_ticks_around() -> None:
    # Volumes by tick from 100.00: 5 1 1 9 8 1 1 7, then a second day of one tick.
    volumes = [5, 1, 1, 9, 8, 1, 1, 7]
    high, low, volume, day = one_day([(100 + k * TICK, 100 + k * TICK, v) for k, v in enumerate(volumes)] + [(50, 50, 2)])
    day[-1] = 1
    nodes = volume_clusters(high, low, volume, day, TICK, 2, 3)
    np.testing.assert_array_equal(nodes, [[100.75, 101.75, 100.0], [50.0, np.nan, np.nan]])
    assert volume_clusters(high, low, volume, day, TICK, 4, 3)[0].tolist()[0] == 100.75
    assert np.isnan(volume_clusters(high, low, volume, day, TICK, 4, 3)[0, 1])


def test_a_plateau_is_one_cluster() -> None:
    nodes = volume_clusters(*one_day([(100, 101, 5)]), TICK, 2, 3)
    np.testing.assert_array_equal(nodes, [[100.0, np.nan, np.nan]])
