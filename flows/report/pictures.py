"""Pictures of one model as PNG files, for the pages of MLflow, which knows nothing of our report's colours."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flows.report import text
from flows.report.figures import no_skill, reliability_bins
from models.results import Evaluation
from pipelines.dataset import Dataset
from pipelines.settings import Report

if TYPE_CHECKING:
    from models.explain import Importance

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#666666"
"""Okabe and Ito's colours, which colour-blind people can tell apart."""


def pictures(evaluation: Evaluation, importance: Importance | None, dataset: Dataset, settings: Report) -> dict[str, bytes]:
    """Draw fold scores, reliability (of a probability) and importance; file name to PNG."""
    drawn = {"plots/folds.png": _folds(evaluation)}
    if evaluation.calibration:
        label = dataset.target(evaluation.label)[evaluation.test_rows]
        bins = reliability_bins(evaluation.test_predictions, label, settings.reliability_bins, classifier=True)
        if bins is not None:
            figure, axes = _figure("reliability on the test part")
            low, high = float(bins.predicted.min()), float(bins.predicted.max())
            axes.plot([low, high], [low, high], color=GREY, linewidth=1.0, label="perfect")
            errors = np.vstack([bins.observed - bins.lower, bins.upper - bins.observed])
            axes.errorbar(bins.predicted, bins.observed, yerr=errors, color=BLUE, marker="o", linestyle="none", label="observed, 95 %")
            axes.set_xlabel("predicted probability")
            axes.legend(frameon=False)
            drawn["plots/reliability.png"] = _png(figure)
    if importance is not None:
        drawn["plots/importance.png"] = _importance(importance)
    return drawn


def _folds(evaluation: Evaluation) -> bytes:
    figure, axes = _figure(evaluation.score_name)
    folds = np.arange(1, len(evaluation.fold_scores) + 1)
    axes.axhline(no_skill(evaluation), color=GREY, linestyle="--", label="no skill")
    axes.plot(folds, evaluation.fold_train_scores, "s", color=ORANGE, label="train")
    axes.plot(folds, evaluation.fold_scores, "o", color=BLUE, label="out of fold")
    axes.plot([len(folds) + 1], [evaluation.test_score], "D", color=GREEN, label="test part")
    axes.set_xticks([*folds, len(folds) + 1], [*(str(fold) for fold in folds), "test"])
    axes.set_xlabel("fold, in time order")
    axes.legend(frameon=False)
    return _png(figure)


def _importance(importance: Importance) -> bytes:
    order = np.argsort(importance.permutation_share)
    rows = np.arange(len(order))
    figure, axes = _figure("share of the importance", height=1.2 + 0.32 * len(order))
    axes.barh(rows + 0.2, np.array(importance.permutation_share)[order], height=0.38, color=BLUE, label="permutation, test part")
    axes.barh(rows - 0.2, np.array(importance.shap_share)[order], height=0.38, color=ORANGE, label=f"SHAP ({importance.shap_method})")
    axes.set_yticks(rows, [text.words(importance.inputs[index]) for index in order])
    axes.legend(frameon=False, loc="lower right")
    return _png(figure)


def _figure(title: str, height: float = 3.6) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.0, height), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()
