"""Data quality: what is missing, doubled, stale, constant, lopsided or suspicious (DOMAIN A.9).

Nothing is deleted here: a large loss is a loss, and taking it out would flatter every metric.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.contracts.tables import Trades
from pipelines.errors import DataRefusedError
from pipelines.market.calendar import NEW_YORK, sessions_between
from pipelines.new_york import FIRST_YEAR, LAST_YEAR
from pipelines.settings import Quality, Settings

Grade = Literal["excellent", "good", "acceptable", "poor", "corrupted", "empty"]

_GRADES: tuple[Literal["excellent", "good", "acceptable", "poor"], ...] = ("excellent", "good", "acceptable", "poor")
_TO_TRADING_DAY = dt.timedelta(hours=6)
"""A Globex trading day begins at 18:00 New York on the evening before."""


@dataclass(frozen=True)
class Check:
    """One row of the quality table.

    Attributes
    ----------
    name
        What was looked at.
    value
        What was found.
    limit
        What passes, readable; empty where the row only informs.
    ok
        False: flagged. Only the grade stops a run.
    note
        What it means, or where.
    """

    name: str
    value: float | int | str | None
    limit: str
    ok: bool
    note: str


@dataclass(frozen=True)
class QualityReport:
    """What the data are worth.

    Attributes
    ----------
    grade
        By missing and duplicate share; "corrupted" and "empty" stop a run.
    trades
        Closed trades.
    span
        First and last decision time, ISO; None when empty.
    missing_share
        Missing values over all trades and the features that have a value at all; 1 when none has.
    duplicate_share
        Exact copies over all records that came in.
    feature_missing
        Missing share by feature.
    absent_features
        Features without any value: the data have no feed for them. They do not count for the grade.
    constant_features
        Features with one value in all trades.
    gap_days
        Trading days between the first and the last trade on which there is none.
    stale_options_share
        Of the signals with option levels, those whose levels are too old; None without any.
    profitable_share
        Trades with a net profit; None when empty.
    suspicious
        Trades by what is odd about them; reported, never deleted.
    sources
        Trades by data source.
    checks
        All of it as a table.
    """

    grade: Grade
    trades: int
    span: tuple[str, str] | None
    missing_share: float
    duplicate_share: float
    feature_missing: dict[str, float]
    absent_features: tuple[str, ...]
    constant_features: tuple[str, ...]
    gap_days: tuple[str, ...]
    stale_options_share: float | None
    profitable_share: float | None
    suspicious: dict[str, int]
    sources: dict[str, int]
    checks: tuple[Check, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain JSON-able values."""
        return asdict(self)


def assess(
    trades: Trades,
    features: NDArray[np.float64],
    feature_names: Sequence[str],
    counts: Mapping[str, Any],
    settings: Settings,
) -> QualityReport:
    """Judge the data before anything learns from them.

    Parameters
    ----------
    trades
        Closed trades.
    features
        Shape (n, k), NaN where missing; row i belongs to trade i.
    feature_names
        k names.
    counts
        `IngestReport.to_dict()`; empty when the trades come from a replay, which has no copies.
    settings
        Sections `quality`, `features` (age of option levels) and `baseline` (scale).

    Raises
    ------
    ValueError
        `features` has not one row per trade and one column per name.
    """
    if features.shape != (len(trades), len(feature_names)):
        raise ValueError(f"features {features.shape} must be {(len(trades), len(feature_names))}")
    missing = np.isnan(features)
    duplicates = counts["duplicates"] / counts["records"] if counts and counts["records"] else 0.0
    if not len(trades):
        return _empty(duplicates)
    has_feed = ~missing.all(axis=0)
    share = float(missing[:, has_feed].mean()) if has_feed.any() else 1.0
    by_feature = dict(zip(feature_names, missing.mean(axis=0).tolist(), strict=True))
    absent = tuple(name for name, gone in by_feature.items() if gone == 1.0)
    constant = _constant(features, feature_names)
    moments = trades.signals.frame["decision_time"]
    gaps = _gap_days(moments)
    stale = _stale_share(trades, settings.features.options_stale_s)
    profitable = float((trades.outcomes.frame["net_pnl"] > 0).mean())
    suspicious = _suspicious(trades, settings.quality)
    sources = _tally(trades.signals.frame["data_source"])
    grade = _grade(share, duplicates, settings.quality)
    checks = (
        *_completeness_checks(grade, share, duplicates, by_feature, absent, settings.quality),
        _absent_check(absent),
        _constant_check(constant),
        _gap_check(gaps),
        _stale_check(stale, settings),
        _balance_check(profitable, settings.quality.min_class_share),
        *_suspicion_checks(suspicious, settings),
        _one_kind("data sources", sources, "sources are never mixed silently: judge or filter them apart"),
        _one_kind("symbols", _tally(trades.signals.frame["symbol"]), "results in R are comparable, those in USD are not"),
        *_ingest_checks(counts),
    )
    return QualityReport(
        grade=grade,
        trades=len(trades),
        span=(moments.min().isoformat(), moments.max().isoformat()),
        missing_share=share,
        duplicate_share=duplicates,
        feature_missing=by_feature,
        absent_features=absent,
        constant_features=constant,
        gap_days=gaps,
        stale_options_share=stale,
        profitable_share=profitable,
        suspicious=suspicious,
        sources=sources,
        checks=checks,
    )


def refuse_if_corrupted(report: QualityReport) -> None:
    """Stop a run whose data nobody should learn from.

    Raises
    ------
    DataRefusedError
        There is no closed trade, or the grade is "corrupted".
    """
    if report.grade == "empty":
        raise DataRefusedError(
            "0 closed trades", limit="at least 1", remedy="ingest signals together with their outcomes; open signals cannot be learnt from"
        )
    if report.grade == "corrupted":
        reasons = "; ".join(check.note for check in report.checks if check.name in ("missing share", "duplicate share") and not check.ok)
        raise DataRefusedError(
            f"data quality is corrupted: {reasons}",
            limit="; ".join(f"{check.name} {check.limit}" for check in report.checks if check.name in ("missing share", "duplicate share")),
            remedy="mend the feed or remove the copies and ingest again; the limits are quality.poor in params.yaml",
        )


def _empty(duplicates: float) -> QualityReport:
    note = "no signal with its outcome yet; there is nothing to judge"
    return QualityReport(
        grade="empty",
        trades=0,
        span=None,
        missing_share=0.0,
        duplicate_share=duplicates,
        feature_missing={},
        absent_features=(),
        constant_features=(),
        gap_days=(),
        stale_options_share=None,
        profitable_share=None,
        suspicious={},
        sources={},
        checks=(Check("trades", 0, ">= 1", ok=False, note=note),),
    )


def _grade(missing: float, duplicates: float, settings: Quality) -> Grade:
    for name in _GRADES:
        limits = getattr(settings, name)
        if missing < limits.missing and duplicates < limits.duplicates:
            return name
    return "corrupted"


def _constant(features: NDArray[np.float64], names: Sequence[str]) -> tuple[str, ...]:
    """Features that never differ; of a single trade nothing can be said."""
    if len(features) < 2:
        return ()
    present = ~np.isnan(features)
    low = np.where(present, features, np.inf).min(axis=0)
    high = np.where(present, features, -np.inf).max(axis=0)
    return tuple(name for name, lowest, highest in zip(names, low, high, strict=True) if lowest == highest)


def _gap_days(moments: pd.Series) -> tuple[str, ...]:
    local = moments.dt.tz_convert(NEW_YORK).dt.tz_localize(None) + _TO_TRADING_DAY
    traded = np.unique(local.to_numpy("datetime64[D]"))
    return tuple(str(day) for day in np.setdiff1d(_trading_days(traded[0], traded[-1]), traded))


def _trading_days(first: np.datetime64, last: np.datetime64) -> NDArray[np.datetime64]:
    """Days with a regular session from `first` to `last`; Monday to Friday where the calendar does not reach."""
    years = first.astype(dt.date).year, last.astype(dt.date).year
    if years[0] >= FIRST_YEAR and years[1] < LAST_YEAR:
        days = sessions_between(*years).day.astype("datetime64[D]")
        return days[(days >= first) & (days <= last)]
    weekdays = np.arange(first, last + np.timedelta64(1, "D"))
    return weekdays[np.is_busday(weekdays)]


def _stale_share(trades: Trades, stale_after_s: float) -> float | None:
    frame = trades.signals.frame
    age = (frame["decision_time"] - frame["market_structure.options_asof"]).dropna().dt.total_seconds()
    return float((age > stale_after_s).mean()) if len(age) else None


def _suspicious(trades: Trades, settings: Quality) -> dict[str, int]:
    frame = trades.outcomes.frame
    duration = (frame["exit_time"] - frame["entry_time"]).dt.total_seconds()
    return {
        "risk_multiple": int((frame["realized_r"].abs() > settings.max_risk_multiple).sum()),
        "pnl_ticks": int((frame["pnl_ticks"].abs() > settings.max_pnl_ticks).sum()),
        "too_short": int((duration < settings.min_duration_s).sum()),
        "too_long": int((duration > settings.max_duration_s).sum()),
        "signal_after_exit": int((trades.signals.frame["recorded_at"] > frame["exit_time"]).sum()),
    }


def _tally(series: pd.Series) -> dict[str, int]:
    return {str(name): int(number) for name, number in series.value_counts().sort_index().items()}


def _completeness_checks(
    grade: Grade, missing: float, duplicates: float, by_feature: dict[str, float], absent: tuple[str, ...], settings: Quality
) -> tuple[Check, ...]:
    counted = [(name, share) for name, share in by_feature.items() if name not in absent]
    worst = sorted(counted, key=lambda item: -item[1])[:3]
    often = ", ".join(f"{name} {share:.1%}" for name, share in worst if share > 0)
    missing_note = f"{missing:.1%} of the values of {len(counted)} feature(s) with a feed are missing" + (f": {often}" if often else "")
    if not counted:
        missing_note = "no feature has a value"
    limits = settings.poor
    return (
        Check("grade", grade, "not corrupted", grade != "corrupted", "by missing share and duplicate share"),
        Check("missing share", missing, f"< {limits.missing:g}", missing < limits.missing, missing_note),
        Check(
            "duplicate share",
            duplicates,
            f"< {limits.duplicates:g}",
            duplicates < limits.duplicates,
            f"{duplicates:.1%} of records are copies",
        ),
    )


def _absent_check(absent: tuple[str, ...]) -> Check:
    note = ", ".join(absent) or "every feature has values"
    return Check("feed absent", len(absent), "0", not absent, note + ("; not part of the missing share" if absent else ""))


def _constant_check(constant: tuple[str, ...]) -> Check:
    return Check("constant features", len(constant), "0", not constant, ", ".join(constant) or "every feature varies")


def _gap_check(gaps: tuple[str, ...]) -> Check:
    shown = ", ".join(gaps[:5]) + (f" and {len(gaps) - 5} more" if len(gaps) > 5 else "")
    return Check("days without a trade", len(gaps), "0", not gaps, shown or "a trade on every trading day")


def _stale_check(stale: float | None, settings: Settings) -> Check:
    limit = settings.quality.max_stale_options
    if stale is None:
        return Check("stale option levels", None, f"<= {limit:g}", ok=True, note="no signal carries option levels")
    note = f"{stale:.1%} of option levels are older than {settings.features.options_stale_s:g} s; they are read as missing"
    return Check("stale option levels", stale, f"<= {limit:g}", stale <= limit, note)


def _balance_check(profitable: float, smallest: float) -> Check:
    ok = smallest <= profitable <= 1.0 - smallest
    note = "both classes are there" if ok else "one class is too rare to learn from"
    return Check("profitable share", profitable, f"{smallest:g} .. {1.0 - smallest:g}", ok, note)


def _suspicion_checks(found: dict[str, int], settings: Settings) -> tuple[Check, ...]:
    hindsight = "the last version of a signal wins; one written when the result was known may hold hindsight"
    limits, kept = settings.quality, "reported, not deleted"
    in_ticks = settings.baseline.scale == "ticks"
    ticks_note = kept if in_ticks else f"{kept}; with baseline.scale atr large moves are expected and not flagged"
    return (
        Check("|R| too large", found["risk_multiple"], f"0 beyond {limits.max_risk_multiple:g} R", not found["risk_multiple"], kept),
        Check(
            "|PnL| too large",
            found["pnl_ticks"],
            f"0 beyond {limits.max_pnl_ticks:g} ticks per contract",
            not (in_ticks and found["pnl_ticks"]),
            ticks_note,
        ),
        Check("in trade too short", found["too_short"], f"0 under {limits.min_duration_s:g} s", not found["too_short"], kept),
        Check("in trade too long", found["too_long"], f"0 over {limits.max_duration_s:g} s", not found["too_long"], kept),
        Check("signals recorded after their exit", found["signal_after_exit"], "0", not found["signal_after_exit"], hindsight),
    )


def _ingest_checks(counts: Mapping[str, Any]) -> tuple[Check, ...]:
    if not counts:
        return ()
    refused, store = counts["refused"], counts["store"]
    return (
        Check("lines in quarantine", refused, "0", not refused, "each with its reason in the quarantine folder"),
        Check("faulty pairs", store["faulty_pairs"], "0", not store["faulty_pairs"], "signal and outcome that cannot be of one trade"),
        Check("open signals", store["open_signals"], "", ok=True, note="no outcome yet; never labelled"),
        Check("orphan outcomes", store["orphan_outcomes"], "0", not store["orphan_outcomes"], "their signal has not come yet"),
    )


def _one_kind(name: str, found: dict[str, int], note: str) -> Check:
    text = ", ".join(f"{kind}: {number}" for kind, number in found.items())
    return Check(name, text, "one kind", len(found) == 1, "one kind" if len(found) == 1 else note)
