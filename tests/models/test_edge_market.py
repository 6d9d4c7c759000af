from __future__ import annotations

from tests.models.market_worlds import SEEDS, achievable_auc, candidates, trades_of, world_settings

EDGE = 0.09
"""Drift at which the planted odds have an AUC of 0.62 on the trades' outcomes."""


def test_with_a_true_auc_of_62_percent_and_4000_trades_a_model_becomes_candidate_in_18_of_20_seeds() -> None:
    settings = world_settings(EDGE)
    counts, truths, passed = [], [], []
    for seed in SEEDS:
        trades = trades_of(settings, seed)
        counts.append(len(trades))
        truths.append(achievable_auc(trades, settings, seed))
        passed.append(bool(candidates(trades, settings)))
    assert 3_800 <= sum(counts) / len(counts) <= 4_200
    assert 0.61 <= sum(truths) / len(truths) <= 0.63
    assert sum(passed) >= 18
