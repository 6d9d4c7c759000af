"""From evaluations to the numbers that the figures show, and the figures themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from scipy.special import expit, logit

from flows.report import plots, text
from flows.report.content import ModelSection
from flows.report.overview import anchor, out_of_fold, target_groups
from models.gates.overfitting import AUC_POINTS
from models.results import Evaluation
from pipelines.performance import Performance
from pipelines.settings import Report

Floats = NDArray[np.float64]

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""

NOT_ABOUT_MONEY = ("exit_timing",)
"""Outcomes whose order does not say which trades are worth taking."""


@dataclass(frozen=True)
class ModelFigures:
    """The figures of one model; None where there is nothing to draw.

    `before` says whether the reliability figure also holds the scores before the calibration.
    """

    folds: Markup | None
    coefficients: Markup | None
    reliability: Markup | None
    before: bool
    importance: Markup | None


@dataclass(frozen=True)
class EquityRow:
    """What one way of trading the test part gave; `baseline` is every trade of the same rows."""

    label: str
    performance: Performance
    baseline: Performance


@dataclass(frozen=True)
class Figures:
    """All figures of a page; `equity_rows` are the lines of the equity figure, `policies` all models."""

    scores: Markup | None
    models: tuple[ModelFigures, ...]
    equity: Markup | None
    equity_rows: tuple[EquityRow, ...]
    policies: tuple[EquityRow, ...]


def figures(models: Sequence[ModelSection], settings: Report) -> Figures:
    """Draw what can be drawn from what is there."""
    series = {family: number for number, family in enumerate(dict.fromkeys(model.evaluation.family for model in models))}
    drawn = tuple(_model(model, anchor(position), settings) for position, model in enumerate(models))
    shown = best_of_families(models)
    policies = tuple(_row(model) for model in models)
    return Figures(_scores(models, series), drawn, _equity(shown, series, settings), _equity_rows(shown), policies)


def best_of_families(models: Sequence[ModelSection]) -> tuple[ModelSection, ...]:
    """Choose the model of each family that scored best out of fold, a candidate before the others.

    Only models that tell good trades from bad ones are compared: the others' score says nothing about
    which trades to take. The test part has no say, for it is what the choice is shown on.
    """
    found: dict[str, tuple[tuple[bool, float], ModelSection]] = {}
    for model in models:
        evaluation = model.evaluation
        skill = (out_of_fold(model)[0] - no_skill(evaluation)) * AUC_POINTS[evaluation.kind]
        if evaluation.judged_on in NOT_ABOUT_MONEY or not np.isfinite(skill):
            continue
        rank = (model.verdict.candidate, skill)
        if evaluation.family not in found or rank > found[evaluation.family][0]:
            found[evaluation.family] = (rank, model)
    return tuple(model for _, model in found.values())


def uncalibrated(evaluation: Evaluation) -> Floats | None:
    """Undo a sigmoid calibration; None where there was none, or one that cannot be undone.

    The calibration is p = sigmoid(slope * logit(score) + intercept), so the score follows from p.
    """
    details = evaluation.details
    if not evaluation.calibration or not {"calibration_slope", "calibration_intercept"} <= details.keys():
        return None
    slope, intercept = details["calibration_slope"], details["calibration_intercept"]
    if (slope, intercept) == (1.0, 0.0) or not slope > 0.0:
        return None
    return np.asarray(expit((logit(evaluation.test_predictions) - intercept) / slope))


def no_skill(evaluation: Evaluation) -> float:
    """The score of a model that knows nothing: 0.5 for an AUC, 0 for a correlation."""
    return 0.5 if evaluation.kind == "classification" else 0.0


def drawdown(equity: Floats) -> Floats:
    """Distance from the highest equity so far, USD, never positive; the start (zero) counts as a peak."""
    return equity - np.maximum(np.maximum.accumulate(equity), 0.0)


def reliability_bins(predictions: Floats, labels: Floats, bins: int, classifier: bool) -> plots.ReliabilityBins | None:
    """Group predictions into equally filled bins, lowest first.

    Parameters
    ----------
    predictions, labels
        Shape (n,). Rows where either is not finite are left out.
    bins
        Wanted number of bins; fewer are made when equal predictions would be torn apart.
    classifier
        Whether labels are 0/1 (Wilson interval) or a quantity (normal interval of the mean).
    """
    known = np.isfinite(predictions) & np.isfinite(labels)
    predictions, labels = predictions[known], labels[known]
    if len(predictions) < 2:
        return None
    edges = np.unique(np.quantile(predictions, np.linspace(0.0, 1.0, bins + 1)[1:-1]))
    group = np.searchsorted(edges, predictions, side="left")
    group = np.unique(group, return_inverse=True)[1]
    count = np.bincount(group)
    predicted = np.bincount(group, predictions) / count
    observed = np.bincount(group, labels) / count
    if classifier:
        lower, upper = _wilson(observed, count)
    else:
        spread = np.bincount(group, (labels - observed[group]) ** 2) / np.maximum(count - 1, 1)
        half = Z_95 * np.sqrt(spread / count)
        lower, upper = observed - half, observed + half
    return plots.ReliabilityBins(predicted, observed, np.minimum(lower, observed), np.maximum(upper, observed), count)


def _wilson(share: Floats, count: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Wilson (1927) score interval of a share, 95 %."""
    z2 = Z_95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z_95 * np.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return centre - half, centre + half


def _model(model: ModelSection, name: str, settings: Report) -> ModelFigures:
    evaluation = model.evaluation
    folds = None
    if any(np.isfinite(evaluation.fold_scores)):
        skill, label = no_skill(evaluation), evaluation.score_name
        folds = plots.fold_scores(f"{name}f", evaluation.fold_train_scores, evaluation.fold_scores, evaluation.test_score, skill, label)
    weights = {key: value for key, value in evaluation.coefficients.items() if np.isfinite(value) and value and key != "intercept"}
    largest = sorted(weights, key=lambda key: (-abs(weights[key]), key))[: settings.max_coefficients]
    unit = f"{'log-odds' if evaluation.kind == 'classification' else 'prediction'} per SD"
    names, values = [text.words(key) for key in largest], [weights[key] for key in largest]
    bars = plots.coefficients(f"{name}c", names, values, unit) if largest else None
    reliability, before = _reliability(model, f"{name}r", settings)
    return ModelFigures(folds, bars, reliability, before, _importance(model, f"{name}i", settings))


def _reliability(model: ModelSection, name: str, settings: Report) -> tuple[Markup | None, bool]:
    evaluation = model.evaluation
    if model.labels is None or len(model.labels) != len(evaluation.test_predictions):
        return None, False
    probability = bool(evaluation.calibration)
    labels = np.asarray(model.labels, dtype=np.float64)
    bins = reliability_bins(evaluation.test_predictions, labels, settings.reliability_bins, probability)
    if bins is None:
        return None, False
    raw = uncalibrated(evaluation)
    before = None if raw is None else reliability_bins(raw, labels, settings.reliability_bins, probability)
    return plots.reliability(name, bins, float(np.nanmean(labels)), probability, before), before is not None


def _importance(model: ModelSection, name: str, settings: Report) -> Markup | None:
    found = model.importance
    if found is None or not found.inputs:
        return None
    permutation, shap = (np.nan_to_num(np.array(shares, dtype=np.float64)) for shares in (found.permutation_share, found.shap_share))
    values = np.nan_to_num(np.array(found.permutation, dtype=np.float64))
    deviation = np.nan_to_num(np.array(found.permutation_std, dtype=np.float64))
    # The deviation is known in points of score; the bars are shares.
    largest = int(np.argmax(np.abs(values)))
    scale = abs(permutation[largest] / values[largest]) if values[largest] else 0.0
    order = np.argsort(-(permutation + shap), kind="stable")[: settings.max_coefficients]
    names = [text.words(found.inputs[row]) for row in order]
    return plots.importance(name, plots.ImportanceBars(names, permutation[order], deviation[order] * scale, shap[order]))


def _scores(models: Sequence[ModelSection], series: Mapping[str, int]) -> Markup | None:
    panels: dict[str, list[tuple[str, list[plots.ScoreRow]]]] = {}
    skills: dict[str, float] = {}
    for group in target_groups(models):
        rows = [
            plots.ScoreRow(row.model.title, row.model.evaluation.fold_scores, row.test, series[row.model.evaluation.family])
            for row in group.rows
        ]
        panels.setdefault(group.score_name, []).append((group.target, rows))
        skills[group.score_name] = no_skill(group.rows[0].model.evaluation)
    if not panels:
        return None
    return plots.scores("scores", [plots.ScorePanel(label, skills[label], groups) for label, groups in panels.items()])


def _equity(models: Sequence[ModelSection], series: Mapping[str, int], settings: Report) -> Markup | None:
    timed = [(model, model.times) for model in models if model.times is not None and len(model.times) == len(model.evaluation.test_net_pnl)]
    shown = [(model, times) for model, times in timed if len(times)]
    if not shown:
        return None
    widest, times = max(shown, key=lambda item: len(item[1]))
    curves = [_curve("baseline", times, widest.evaluation.test_net_pnl, None, settings)]
    for model, times in shown:
        pnl = model.evaluation.test_net_pnl * model.evaluation.test_multipliers
        curves.append(_curve(f"with {model.name}", times, pnl, series[model.evaluation.family], settings))
    return plots.equity("equity", curves)


def _curve(label: str, times: NDArray[np.datetime64], pnl: Floats, series: int | None, settings: Report) -> plots.Curve:
    equity = np.cumsum(pnl)
    kept = thinned([equity], settings.curve_points)
    return plots.Curve(label, times[kept], equity[kept], drawdown(equity)[kept], series)


def _equity_rows(shown: Sequence[ModelSection]) -> tuple[EquityRow, ...]:
    if not shown:
        return ()
    widest = max((model.evaluation for model in shown), key=lambda evaluation: len(evaluation.test_net_pnl))
    return EquityRow("baseline", widest.baseline_performance, widest.baseline_performance), *(_row(model) for model in shown)


def _row(model: ModelSection) -> EquityRow:
    return EquityRow(f"with {model.name}", model.evaluation.policy_performance, model.evaluation.baseline_performance)


def thinned(curves: Sequence[Floats], points: int) -> NDArray[np.int64]:
    """Choose about `points` common positions of several curves; first, last and every curve's extremes stay."""
    size = len(curves[0])
    kept = {int(k) for k in np.linspace(0, size - 1, min(points, size)).round()}
    for curve in curves:
        below = drawdown(curve)
        kept |= {int(np.argmin(curve)), int(np.argmax(curve)), int(np.argmin(below))}
    return np.array(sorted(kept), dtype=np.int64)
