from __future__ import annotations

from tests.models.market_worlds import SEEDS, candidates, trades_of, world_settings


def test_on_a_market_without_edge_nothing_becomes_candidate_in_20_of_20_seeds() -> None:
    settings = world_settings(edge=0.0)
    found = {seed: candidates(trades_of(settings, seed), settings) for seed in SEEDS}
    assert {seed: targets for seed, targets in found.items() if targets} == {}
