"""`params.yaml` as frozen, strict models: the one place of every default.

Nothing else in the project holds a tunable number. A stage receives the section that it
needs, never the file.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pipelines.errors import SettingsError

PROJECT_ROOT = Path(__file__).resolve().parents[1]
DEFAULT_PARAMS = PROJECT_ROOT / "params.yaml"

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]


def _clock_time(value: object) -> object:
    """Read "HH:MM" (New York wall clock); strict mode would refuse the text otherwise."""
    if isinstance(value, str):
        try:
            return dt.time.fromisoformat(value)
        except ValueError:
            return value
    return value


def _date(value: object) -> object:
    """Read "YYYY-MM-DD" as text: DVC knows no YAML dates."""
    if isinstance(value, str):
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            return value
    return value


class _Loader(yaml.SafeLoader):
    """YAML without the base-60 integers of its version 1.1, which read 15:45 as 945.

    DVC writes params.yaml anew for an experiment (`dvc exp run -S`), by the rules of version 1.2, and then leaves
    the quotes out.
    """


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:int"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))


def _yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader with fewer kinds of numbers


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


ClockTime = Annotated[dt.time, BeforeValidator(_clock_time)]
Date = Annotated[dt.date, BeforeValidator(_date)]


class Section(BaseModel):
    """A part of `params.yaml`: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Instrument(Section):
    symbol: Literal["ES", "MES", "NQ", "MNQ"]
    price_min: Positive
    price_max: Positive
    commission: NonNegative

    @property
    def tick_size(self) -> float:
        """Index points per tick."""
        return TICK_SIZE[self.symbol]

    @property
    def tick_value(self) -> float:
        """USD per tick and contract."""
        return TICK_VALUE[self.symbol]


TICK_SIZE = {"ES": 0.25, "MES": 0.25, "NQ": 0.25, "MNQ": 0.25}
TICK_VALUE = {"ES": 12.50, "MES": 1.25, "NQ": 5.00, "MNQ": 0.50}


class Market(Section):
    atr_period: Count
    slope_bars: Annotated[int, Field(ge=2)]
    atr_rank_sessions: Count
    atr_rank_min_sessions: Count
    correlation_bars: Annotated[int, Field(ge=3)]
    correlation_min_pairs: Annotated[int, Field(ge=3)]
    value_area_share: Annotated[float, Field(gt=0.0, lt=1.0)]
    volume_clusters: Annotated[int, Field(ge=0, le=8)]
    cluster_reach_ticks: Count
    vix_max_age_days: Positive
    trend_bars: Annotated[int, Field(ge=3)]
    volatility_bars: Annotated[int, Field(ge=3)]
    max_gap_bars: Annotated[int, Field(ge=0)]
    max_median_ratio: Annotated[float, Field(gt=1.0)]


class Options(Section):
    spot_grid_share: Annotated[float, Field(gt=0.0, lt=1.0)]
    spot_grid_points: Annotated[int, Field(ge=3)]
    multiplier: Count
    rate: float
    min_open_interest: Annotated[int, Field(ge=0)]


class Synthetic(Section):
    sessions: Count
    start: Date
    bar_minutes: Literal[1, 5]
    edge: NonNegative
    start_price: Positive
    bar_sd_points: Positive
    nq_correlation: Annotated[float, Field(ge=-1.0, le=1.0)]
    vix_mean: Positive
    vix_phi: Annotated[float, Field(ge=0.0, lt=1.0)]
    option_grid: Positive


class BaselineDistances(Section):
    """Distances of the Battle Navale rules, all in one unit (ticks or ATR14)."""

    base_size: Positive
    base_ideal_low: Positive
    base_ideal_high: Positive
    base_good_low: Positive
    base_good_high: Positive
    pattern_reach: Positive
    color_reach: Positive
    stop: Positive


class Baseline(Section):
    scale: Literal["ticks", "atr"]
    vikings_bars: Count
    volume_ref_bars: Count
    base_window: Count
    base_zone: Count
    base_std_share: Positive
    base_min_quality: Share
    base_entry_quality: Share
    require_base: bool
    golden_rule_bars: Count
    violation_ticks: NonNegative
    signal_threshold: Share
    confidence_gate: Share
    confluence_gate: Share
    max_spread_ticks: Positive
    ticks: BaselineDistances
    atr: BaselineDistances
    confluence_weights: dict[str, Share]

    @property
    def distances(self) -> BaselineDistances:
        """The distances in the unit that `scale` selects."""
        return self.ticks if self.scale == "ticks" else self.atr

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> Self:
        total = sum(self.confluence_weights.values())
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"confluence_weights sum to {total:.6f}; they must sum to 1")
        return self


class Replay(Section):
    mode: Literal["collect", "live"]
    warmup_bars: Annotated[int, Field(ge=32)]
    cooldown_bars: Annotated[int, Field(ge=0)]
    slippage_ticks: NonNegative
    reward_risk: Positive
    time_exit_bars: Count
    reversal_exit: bool
    special_exit: bool
    target_trade_through_ticks: NonNegative
    size: Count
    entry_open: ClockTime
    entry_close: ClockTime
    flat_by: ClockTime
    half_day_flat_minutes: Count
    daily_loss_soft: Positive
    daily_loss_hard: Positive
    max_consecutive_losses: Count
    stopout_cooldown_minutes: NonNegative
    patience_minutes: Annotated[tuple[float, float, float, float], BeforeValidator(_tuple)]
    vix_bands: Annotated[tuple[float, float, float], BeforeValidator(_tuple)]

    @model_validator(mode="after")
    def _entry_window(self) -> Self:
        if not self.entry_open < self.entry_close < self.flat_by:
            raise ValueError("entry_open < entry_close < flat_by must hold")
        return self


class FeatureDistances(Section):
    """Distances at which a proximity reaches zero and the slope of a full trend, in ticks or ATR14."""

    gamma_wall: Positive
    gamma_flip: Positive
    level: Positive
    slope: Positive


class Features(Section):
    scale: Literal["ticks", "atr"]
    ticks: FeatureDistances
    atr: FeatureDistances
    options_stale_s: Positive
    include_gamma_regime: bool
    spread_full_ticks: Positive
    vix_low: NonNegative
    vix_span: Positive

    @property
    def distances(self) -> FeatureDistances:
        """The distances in the unit that `scale` selects."""
        return self.ticks if self.scale == "ticks" else self.atr


class Grade(Section):
    missing: Share
    duplicates: Share


class Snapshots(Section):
    max_line_bytes: Annotated[int, Field(ge=4096)]
    block_records: Count
    max_reason_chars: Annotated[int, Field(ge=80)]


class Quality(Section):
    excellent: Grade
    good: Grade
    acceptable: Grade
    poor: Grade
    max_pnl_ticks: Positive
    max_risk_multiple: Positive
    min_duration_s: NonNegative
    max_duration_s: Positive
    max_stale_options: Share
    min_class_share: Share


class Targets(Section):
    strong_r: float
    exit_clip_bars: Count


class Splits(Section):
    folds: Annotated[int, Field(ge=2)]
    embargo_hours: NonNegative
    train_share: Share
    validation_share: Share
    test_share: Share

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = self.train_share + self.validation_share + self.test_share
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"train, validation and test shares sum to {total:.6g}; they must sum to 1")
        return self


class Performance(Section):
    profit_factor_cap: Positive


class Weights(Section):
    uniqueness: bool
    time_decay: Annotated[float, Field(gt=0.0, le=1.0)]


Family = Literal["linear", "forest", "xgboost", "lstm", "ensemble"]
FAMILIES: tuple[Family, ...] = ("linear", "forest", "xgboost", "lstm", "ensemble")
"""Rungs of the ladder, simplest first."""


class LadderTrades(Section):
    linear: Count
    forest: Count
    xgboost: Count
    lstm: Count
    ensemble: Count


class LadderMargins(Section):
    forest: NonNegative
    xgboost: NonNegative
    lstm: NonNegative
    ensemble: NonNegative


class Ladder(Section):
    min_trades: LadderTrades
    margins: LadderMargins
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)]


class Linear(Section):
    c: Positive
    alpha: NonNegative
    max_iter: Count
    balanced: bool


class Forest(Section):
    trees: Count
    max_depth: Count
    min_leaf_share: Annotated[float, Field(gt=0.0, lt=0.5)]
    max_features: Annotated[float, Field(gt=0.0, le=1.0)]
    max_samples: Annotated[float, Field(gt=0.0, le=1.0)]


class Xgboost(Section):
    trees: Count
    max_depth: Annotated[int, Field(ge=1, le=12)]
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)]
    subsample: Annotated[float, Field(gt=0.0, le=1.0)]
    colsample: Annotated[float, Field(gt=0.0, le=1.0)]
    min_child_weight: NonNegative
    reg_lambda: NonNegative


class Lstm(Section):
    device: Literal["auto", "cpu", "cuda"]
    hidden: Annotated[int, Field(ge=1, le=512)]
    head: Annotated[int, Field(ge=1, le=512)]
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)]
    learning_rate: Positive
    weight_decay: NonNegative
    batch: Count
    max_epochs: Count
    patience: Count
    validation_share: Annotated[float, Field(gt=0.0, lt=0.5)]
    clip_norm: Positive


class EnsembleWeights(Section):
    linear: Share
    forest: Share
    xgboost: Share

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.linear + self.forest + self.xgboost
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"the members' weights sum to {total:.6g}; they must sum to 1")
        return self


class Ensemble(Section):
    combination: Literal["voting", "weighted", "stacking"]
    weights: EnsembleWeights
    stacking_penalty: NonNegative
    min_confidence: Share


class Train(Section):
    families: Annotated[tuple[Family, ...], BeforeValidator(_tuple), Field(min_length=1)]
    workers: Count
    clip_quantile: Annotated[float, Field(ge=0.0, lt=0.5)]
    linear: Linear
    forest: Forest
    xgboost: Xgboost
    lstm: Lstm
    ensemble: Ensemble

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        ordered = tuple(name for name in FAMILIES if name in self.families)
        if ordered != self.families:
            raise ValueError(f"train.families is {list(self.families)}; each at most once, simplest first: {list(ordered)}")
        return self


class Calibration(Section):
    method: Literal["sigmoid", "isotonic"]
    folds: Annotated[int, Field(ge=2)]
    min_slope: Positive
    slope_penalty: NonNegative
    bins: Annotated[int, Field(ge=3)]


class Tuning(Section):
    use: bool
    trials: Count
    time_budget_s: Positive
    folds: Annotated[int, Field(ge=2)]
    startup_trials: Count
    pruner_warmup_folds: Count
    gap_penalty: NonNegative
    free_gap: NonNegative


class Explain(Section):
    repeats: Count
    shap_rows: Annotated[int, Field(ge=10)]
    background_rows: Annotated[int, Field(ge=10)]
    max_shift: Positive
    min_share: Share
    new_share: Share


class Gates(Section):
    min_promotable_trades: Count
    min_test_trades: Count
    bootstrap_samples: Annotated[int, Field(ge=100)]
    bootstrap_block_days: Count
    skill_confidence: Annotated[float, Field(gt=0.5, lt=1.0)]
    min_test_auc: Share
    min_test_correlation: Share
    max_train_test_gap: NonNegative
    max_fold_std: NonNegative


class Policy(Section):
    neutral: Share
    max_multiplier: Positive


class Registry(Section):
    model_prefix: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    experiment: Annotated[str, Field(min_length=1)]
    max_parity: Positive


class Drift(Section):
    evidently_threshold: Positive
    max_share: Share


class Report(Section):
    curve_points: Annotated[int, Field(ge=10)]
    reliability_bins: Annotated[int, Field(ge=2)]
    max_coefficients: Count


class Serving(Section):
    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)]
    max_body_bytes: Annotated[int, Field(ge=4096)]
    refresh_s: Positive
    target: Literal["signal_quality", "profitability", "signal_strength"]
    max_problems: Count
    required_features: Annotated[tuple[str, ...], BeforeValidator(_tuple)]


class Paths(Section):
    data: Annotated[str, Field(min_length=1)]
    min_free_mb: Annotated[int, Field(ge=0)]


class Settings(Section):
    """All of `params.yaml`."""

    seed: Annotated[int, Field(ge=0)]
    instrument: Instrument
    market: Market
    options: Options
    synthetic: Synthetic
    baseline: Baseline
    replay: Replay
    features: Features
    snapshots: Snapshots
    quality: Quality
    targets: Targets
    splits: Splits
    performance: Performance
    weights: Weights
    ladder: Ladder
    train: Train
    calibration: Calibration
    tuning: Tuning
    explain: Explain
    gates: Gates
    policy: Policy
    registry: Registry
    drift: Drift
    report: Report
    serving: Serving
    paths: Paths

    @model_validator(mode="after")
    def _warm_before_the_first_signal(self) -> Self:
        rules = self.baseline
        needed = max(rules.vikings_bars, rules.volume_ref_bars, rules.base_window, rules.golden_rule_bars)
        if self.replay.warmup_bars < needed:
            raise ValueError(f"replay.warmup_bars is {self.replay.warmup_bars}; the baseline looks back {needed} bars")
        return self

    def fingerprint(self, *sections: str) -> str:
        """SHA-256 of the named sections (all of them when none is named), 64 hex digits."""
        content = self.model_dump(mode="json", include=set(sections) or None)
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def load_settings(path: Path = DEFAULT_PARAMS, overrides: Sequence[str] = ()) -> Settings:
    """Read and check `params.yaml`.

    Parameters
    ----------
    path
        The YAML file.
    overrides
        Texts "section.key=value"; the value is read as YAML.

    Raises
    ------
    SettingsError
        The file is missing or not YAML, a key is unknown, missing or of the wrong type.
        The message names the key's path.
    """
    raw = _read_yaml(path)
    for override in overrides:
        _apply_override(raw, override)
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        lines = [_describe(problem) for problem in error.errors()]
        raise SettingsError(
            f"{path.name}: " + "; ".join(lines),
            remedy=f"mend the key in {path.name} (or the --set that changed it)",
        ) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = _yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist", remedy="name the file with --params") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name} is not YAML: {error}", remedy="mend the line") from None
    if not isinstance(raw, dict):
        raise SettingsError(f"{path.name} holds {type(raw).__name__}", limit="sections with keys")
    return raw


def _apply_override(raw: dict[str, Any], override: str) -> None:
    dotted, separator, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not separator or not all(keys):
        raise SettingsError(f"--set {override!r}", limit="section.key=value")
    node: Any = raw
    for depth, key in enumerate(keys[:-1]):
        node = node.get(key) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise SettingsError(f"--set: no section {'.'.join(keys[: depth + 1])!r}")
    if keys[-1] not in node:
        raise SettingsError(f"--set: unknown key {dotted.strip()!r}", limit=f"one of {', '.join(map(str, node))}")
    try:
        node[keys[-1]] = _yaml(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {override!r}: the value is not YAML ({error})") from None


def _describe(problem: Any) -> str:
    path = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
    if problem["type"] == "extra_forbidden":
        return f"{path}: unknown key (value {problem['input']!r})"
    if problem["type"] == "missing":
        return f"{path}: missing key"
    if problem["type"] == "value_error":
        return f"{path}: {problem['ctx']['error']}"
    return f"{path} = {problem['input']!r}: {problem['msg']}"
