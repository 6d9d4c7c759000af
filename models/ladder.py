"""The ladder: simple before complex.

Two rules. A family trains only when there are enough clean trades for it (DOMAIN E.2). And it
replaces a simpler family only when it beats that family's model out of fold: on average by the
margin of the settings, and by more than the folds scatter (DOMAIN E.1). Both models are scored on
the same trades of the same folds, so the folds are compared in pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.families import FAMILIES, FamilySpec
from models.results import Evaluation, GateResult
from pipelines.dataset import Dataset
from pipelines.errors import DataRefusedError
from pipelines.settings import Family, Ladder

Floats = NDArray[np.float64]

SIMPLEST: Family = "linear"


@dataclass(frozen=True)
class Rung:
    """Whether one family may train.

    Attributes
    ----------
    family, title
        The family.
    trades, needed
        Clean trades there are and have to be.
    """

    family: Family
    title: str
    trades: int
    needed: int

    @property
    def open(self) -> bool:
        """Whether there are enough trades."""
        return self.trades >= self.needed

    @property
    def sentence(self) -> str:
        """For the report: "LSTM: 3,912 of 5,000 clean trades"."""
        return f"{self.title}: {self.trades:,} of {self.needed:,} clean trades"


def rungs(trades: int, families: Sequence[Family], settings: Ladder) -> tuple[Rung, ...]:
    """Say of every family whether it may train, in the order given.

    Parameters
    ----------
    trades
        Clean closed trades.
    families
        Those that are asked for.
    settings
        Section `ladder` of the settings.

    Examples
    --------
    >>> from pipelines.settings import load_settings
    >>> for rung in rungs(3912, ("forest", "lstm"), load_settings().ladder):
    ...     print(rung.sentence, rung.open)
    Random forest: 3,912 of 1,000 clean trades True
    LSTM: 3,912 of 5,000 clean trades False
    """
    return tuple(Rung(name, FAMILIES[name].title, trades, getattr(settings.min_trades, name)) for name in families)


def check_trainable(trades: int, family: Family, settings: Ladder) -> None:
    """Refuse to train a family on too few trades.

    Raises
    ------
    DataRefusedError
        Fewer than `ladder.min_trades` of the family; the message says how many are missing.
    """
    (rung,) = rungs(trades, (family,), settings)
    if not rung.open:
        raise DataRefusedError(
            f"{rung.sentence}, {rung.needed - trades:,} missing",
            limit=f"at least {rung.needed:,} clean trades before this family is trained",
            remedy="collect all available history",
        )


def incumbent(evaluation: Evaluation, below: Sequence[tuple[Evaluation, bool]]) -> Evaluation | None:
    """Find the model that a more complex one has to beat.

    That is the most complex simpler model of the same target that passed every gate; where none
    passed, the simplest one. A target that the simpler families do not have is compared with their
    model that is judged on the same quantity.

    Parameters
    ----------
    evaluation
        The challenger.
    below
        The evaluations of simpler families, simplest first, and whether they passed every gate.
    """
    same = [(item, passed) for item, passed in below if item.target == evaluation.target]
    if not same:
        same = [(item, passed) for item, passed in below if (item.kind, item.judged_on) == (evaluation.kind, evaluation.judged_on)]
    passed_all = [item for item, passed in same if passed]
    if passed_all:
        return passed_all[-1]
    return same[0][0] if same else None


def earns_its_place(challenger: Evaluation, rival: Evaluation | None, dataset: Dataset, settings: Ladder) -> GateResult:
    """Whether a model beats the simpler one out of fold, by the margin and beyond the noise of the folds.

    Skill is ROC-AUC above one half, or the correlation; XGBoost is held against the Sharpe ratio of
    the daily PnL that the policy would have made. A challenger below zero never passes, however bad
    its rival. The value is the relative improvement, (new - old) / |old|.
    """
    family = FAMILIES[_family(challenger)]
    if family.name == SIMPLEST:
        return GateResult("ladder", True, 0.0, "the simplest family", "the linear family has nobody to beat")
    margin = float(getattr(settings.margins, family.name))
    missing = [] if rival is not None else _rivals(family, challenger)
    if missing:
        reason = f"it has to beat the model of a simpler family ({', '.join(missing)}), and none was trained"
        return GateResult("ladder", False, None, f">= {margin:g}", reason, {"rivals": missing})
    if rival is None:
        return GateResult(
            "ladder", True, 0.0, "no simpler rival", f"no simpler family has a model of {challenger.target.replace('_', ' ')}"
        )
    # Whether a trade's best price comes late says nothing about its money.
    about_money = challenger.judged_on != "exit_timing"
    measured = "Sharpe ratio" if family.name == "xgboost" and about_money else "skill"
    new, old = (_by_fold(item, dataset, measured) for item in (challenger, rival))
    if len(new) != len(old):
        raise ValueError(f"{challenger.name} has {len(new)} folds, {rival.name} has {len(old)}")
    if not (np.array_equal(challenger.oof_rows, rival.oof_rows) and np.array_equal(challenger.oof_folds, rival.oof_folds)):
        raise ValueError(f"{challenger.name} and {rival.name} were not scored on the same trades of the same folds")
    gain = new - old
    relative = float(gain.mean() / abs(old.mean())) if old.mean() else float("nan")
    error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
    lower = float(gain.mean() - stats.t.ppf(settings.confidence, len(gain) - 1) * error)
    passed = bool(new.mean() > 0.0 and relative >= margin and lower > 0.0)
    reason = (
        f"out of fold the mean {measured} goes from {old.mean():.4f} ({rival.family}) to {new.mean():.4f}, {relative:+.0%}; "
        f"{margin:+.0%} are asked for, above zero, and a gain whose lower bound ({lower:+.4f}) lies above zero"
    )
    if "tuned_parameters" in challenger.details:
        reason += "; its parameters were chosen on most of these trades"
    evidence = {"rival": rival.name, "measured": measured, "new": new.tolist(), "old": old.tolist(), "lower": lower}
    return GateResult("ladder", passed, relative, f">= {margin:g}", reason, evidence)


def _family(evaluation: Evaluation) -> Family:
    return next(name for name in FAMILIES if name == evaluation.family)


def _rivals(family: FamilySpec, challenger: Evaluation) -> list[str]:
    """Simpler families that have a model which `incumbent` would compare with, trained or not."""
    simpler = list(FAMILIES.values())[: list(FAMILIES).index(family.name)]
    return [
        spec.title
        for spec in simpler
        if any(
            model.target == challenger.target or (model.kind, model.judged_on) == (challenger.kind, challenger.judged_on)
            for model in spec.models
        )
    ]


def _by_fold(evaluation: Evaluation, dataset: Dataset, measured: str) -> Floats:
    if measured == "skill":
        return np.array(evaluation.fold_scores) - (0.5 if evaluation.kind == "classification" else 0.0)
    pnl = dataset.target("net_pnl")[evaluation.oof_rows] * evaluation.oof_multipliers
    days = dataset.trading_days[evaluation.oof_rows]
    folds = [evaluation.oof_folds == number for number in np.unique(evaluation.oof_folds)]
    return np.array([_daily_sharpe(pnl[rows], days[rows]) for rows in folds])


def _daily_sharpe(pnl: Floats, days: NDArray[np.int64]) -> float:
    """Mean / standard deviation of the PnL per trading day; days on which the policy takes nothing count as 0."""
    daily = np.bincount(np.unique(days, return_inverse=True)[1], pnl)
    deviation = float(daily.std(ddof=1)) if len(daily) > 1 else 0.0
    return float(daily.mean()) / deviation if deviation > 0.0 else float("nan")
