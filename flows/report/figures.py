"""From evaluations to the numbers that the figures show, and the figures themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from flows.report import plots, text
from flows.report.content import ModelSection
from models.results import Evaluation
from pipelines.performance import Performance
from pipelines.settings import Report

Floats = NDArray[np.float64]

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True)
class ModelFigures:
    """The figures of one model; None where there is nothing to draw."""

    folds: Markup | None
    coefficients: Markup | None
    reliability: Markup | None


@dataclass(frozen=True)
class EquityRow:
    """What one way of trading the test part gave."""

    label: str
    performance: Performance


@dataclass(frozen=True)
class Figures:
    """All figures of a page."""

    models: tuple[ModelFigures, ...]
    equity: Markup | None
    equity_rows: tuple[EquityRow, ...]


def figures(models: Sequence[ModelSection], test_times: NDArray[np.datetime64] | None, settings: Report) -> Figures:
    """Draw what can be drawn from what is there."""
    drawn = tuple(_model(model, f"m{position}", settings) for position, model in enumerate(models))
    return Figures(drawn, _equity(models, test_times, settings), _equity_rows(models))


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
    classifier = evaluation.kind == "classification"
    folds = None
    if any(np.isfinite(evaluation.fold_scores)):
        label = "ROC-AUC" if classifier else "correlation with realised R"
        skill = no_skill(evaluation)
        folds = plots.fold_scores(f"{name}f", evaluation.fold_train_scores, evaluation.fold_scores, evaluation.test_score, skill, label)
    weights = {key: value for key, value in evaluation.coefficients.items() if np.isfinite(value) and value and key != "intercept"}
    largest = sorted(weights, key=lambda key: (-abs(weights[key]), key))[: settings.max_coefficients]
    unit = f"{'log-odds' if classifier else 'prediction'} per SD"
    names, values = [text.words(key) for key in largest], [weights[key] for key in largest]
    bars = plots.coefficients(f"{name}c", names, values, unit) if largest else None
    reliability = None
    if model.labels is not None and len(model.labels) == len(evaluation.test_predictions):
        labels = np.asarray(model.labels, dtype=np.float64)
        bins = reliability_bins(evaluation.test_predictions, labels, settings.reliability_bins, classifier)
        if bins is not None:
            reliability = plots.reliability(f"{name}r", bins, float(np.nanmean(labels)), classifier)
    return ModelFigures(folds, bars, reliability)


def _equity(models: Sequence[ModelSection], test_times: NDArray[np.datetime64] | None, settings: Report) -> Markup | None:
    shown = [model for model in models if test_times is not None and len(model.evaluation.test_net_pnl) == len(test_times)]
    if test_times is None or not len(test_times) or not shown:
        return None
    ways = [("baseline", shown[0].evaluation.test_net_pnl)]
    ways += [(f"with {model.name}", model.evaluation.test_net_pnl * model.evaluation.test_multipliers) for model in shown]
    equity = [np.cumsum(pnl) for _, pnl in ways]
    kept = thinned(equity, settings.curve_points)
    curves = [plots.Curve(label, curve[kept], drawdown(curve)[kept]) for (label, _), curve in zip(ways, equity, strict=True)]
    return plots.equity("equity", test_times[kept], curves)


def _equity_rows(models: Sequence[ModelSection]) -> tuple[EquityRow, ...]:
    if not models:
        return ()
    policies = (EquityRow(f"with {model.name}", model.evaluation.policy_performance) for model in models)
    return EquityRow("baseline", models[0].evaluation.baseline_performance), *policies


def thinned(curves: Sequence[Floats], points: int) -> NDArray[np.int64]:
    """Choose about `points` common positions of several curves; first, last and every curve's extremes stay."""
    size = len(curves[0])
    kept = {int(k) for k in np.linspace(0, size - 1, min(points, size)).round()}
    for curve in curves:
        below = drawdown(curve)
        kept |= {int(np.argmin(curve)), int(np.argmax(curve)), int(np.argmin(below))}
    return np.array(sorted(kept), dtype=np.int64)
