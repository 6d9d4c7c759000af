"""Whole synthetic markets, replayed and judged: what the machinery makes of a known truth."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from models.gates.battery import judge
from models.training import train_family
from pipelines import dataset as datasets
from pipelines.baseline.replay import replay
from pipelines.contracts.tables import Trades, join
from pipelines.features.twelve import compute
from pipelines.features.window import compute_windows
from pipelines.market.frame import build_market
from pipelines.market.synthetic import driver, synthesise
from pipelines.settings import Settings, load_settings

SEEDS = range(20)


def world_settings(edge: float) -> Settings:
    """Enough trading days for some 4,000 trades."""
    return load_settings(overrides=[f"synthetic.edge={edge}", "synthetic.sessions=350", "gates.bootstrap_samples=1000"])


def trades_of(settings: Settings, seed: int) -> Trades:
    """The closed trades of one market."""
    result = replay(build_market(synthesise(settings, seed), settings), settings)
    return join(result.signals, result.outcomes)


def candidates(trades: Trades, settings: Settings) -> set[str]:
    """Targets whose linear model passed every gate."""
    features = compute(trades.signals, settings.features)
    data = datasets.build(trades, features, compute_windows(trades.signals), settings, code_version="test")
    verdicts = [judge(model.evaluation, data, settings, parity=0.0) for model in train_family(data, "linear", settings).models]
    return {verdict.target for verdict in verdicts if verdict.candidate}


def achievable_auc(trades: Trades, settings: Settings, seed: int) -> float:
    """AUC of the planted driver, which fixes each trade's odds, against what became of the trades."""
    signals = trades.signals.frame
    day = signals["decision_time"].dt.tz_convert("America/New_York").dt.tz_localize(None).dt.normalize().astype("datetime64[ns]")
    side = np.where(signals["battle_navale.direction"] == "LONG", 1.0, -1.0)
    odds = driver(settings, seed).reindex(day).to_numpy() * side
    return float(roc_auc_score(trades.outcomes.frame["net_pnl"] > 0, odds))
