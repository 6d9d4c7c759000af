"""The report's figures as inline SVG: no file, no script, the same bytes for the same numbers.

Colours are written as CSS variables of the page, so that one figure serves a light and a dark
screen. The series colours are those of Okabe and Ito, which colour-blind people can tell apart;
markers and line styles differ as well. Text stays text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from textwrap import shorten

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Stand-ins that matplotlib draws with; `_inline` puts the page's variables in their place.
INK, SOFT, GRID = "#010101", "#020202", "#030303"
BASE = "#040404"
SERIES = ("#050505", "#060606", "#070707", "#080808", "#090909")
_VARIABLES = {
    **{INK: "var(--ink)", SOFT: "var(--soft)", GRID: "var(--grid)", BASE: "var(--base)"},
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)},
}
LONGEST_NAME = 40
"""Characters of a name; a longer one would leave no room for what it names."""

LINES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (7, 2, 2, 2)), (0, (1, 1)))

_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.unicode_minus": True,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "path.simplify": False,
}


@dataclass(frozen=True)
class ReliabilityBins:
    """Predictions in equally filled bins, lowest first; arrays of shape (bins,).

    Attributes
    ----------
    predicted
        Mean prediction.
    observed
        Share of the positive class (classifier) or mean outcome (regression).
    lower, upper
        95 % interval of `observed`.
    count
        Trades in the bin.
    """

    predicted: Floats
    observed: Floats
    lower: Floats
    upper: Floats
    count: NDArray[np.int64]


@dataclass(frozen=True)
class Curve:
    """One line of the equity figure: USD after each trade, shape (n,); `series` numbers its colour, None is the baseline."""

    label: str
    times: NDArray[np.datetime64]
    equity: Floats
    drawdown: Floats
    series: int | None


@dataclass(frozen=True)
class ScoreRow:
    """One model in the figure of all scores; `series` numbers the colour of its family."""

    label: str
    folds: Sequence[float]
    test: float
    series: int


@dataclass(frozen=True)
class ScorePanel:
    """All models whose scores are measured alike, in groups of one target each."""

    label: str
    no_skill: float
    groups: Sequence[tuple[str, Sequence[ScoreRow]]]


@dataclass(frozen=True)
class ImportanceBars:
    """Inputs, most important first, with their shares of the whole importance; arrays of shape (inputs,)."""

    inputs: Sequence[str]
    permutation: Floats
    deviation: Floats
    shap: Floats


def fold_scores(name: str, train: Sequence[float], folds: Sequence[float], test: float, no_skill: float, label: str) -> Markup:
    """Plot train and out-of-fold score of every fold and the final test score, with the no-skill line."""
    with _style(name):
        figure, axes = _figure(3.7, 3.1)
        positions = np.arange(1, len(folds) + 1)
        axes.axhline(no_skill, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label=f"no skill ({no_skill:g})")
        axes.plot(positions[: len(train)], train, color=SERIES[1], marker="s", linestyle="none", markersize=6, label="train")
        axes.plot(positions, folds, color=SERIES[0], marker="o", linestyle="none", markersize=7, label="out of fold")
        axes.plot([len(folds) + 1], [test], color=SERIES[2], marker="D", linestyle="none", markersize=7, label="final test")
        axes.set_xticks([*positions, len(folds) + 1], [*(str(k) for k in positions), "test"])
        axes.set_xlim(0.5, len(folds) + 1.5)
        known = [value for value in (*train, *folds, test, no_skill) if np.isfinite(value)]
        margin = max(0.02, 0.15 * (max(known) - min(known)))
        axes.set_ylim(min(known) - margin, max(known) + margin)
        axes.set_xlabel("fold, in time order")
        axes.set_title(label)
        axes.grid(axis="y")
        _legend_below(axes, 2)
        return _inline(figure, name)


def scores(name: str, panels: Sequence[ScorePanel]) -> Markup:
    """Plot every model's fold scores and test score, one panel per kind of score, one line per model."""
    with _style(name):
        lines = [sum(1 + len(rows) for _, rows in panel.groups) for panel in panels]
        figure = Figure(figsize=(6.2, 0.5 + sum(0.7 + 0.215 * count for count in lines)), layout=ConstrainedLayoutEngine(h_pad=0.09))
        every = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[count + 0.6 for count in lines])[:, 0]
        for axes, panel, count in zip(every, panels, lines, strict=True):
            _score_panel(axes, panel, count)
        handles, labels = every[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=4, fontsize=9, handletextpad=0.3)
        return _inline(figure, name)


def _score_panel(axes: Axes, panel: ScorePanel, count: int) -> None:
    axes.axvline(panel.no_skill, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label="no skill")
    ticks: list[tuple[float, str, bool]] = []
    known = [panel.no_skill]
    marks: dict[str, tuple[str, float, float]] = {
        "fold": ("o", 3.6, 0.55),
        "mean of the folds": ("|", 12.0, 1.0),
        "final test": ("D", 7.0, 1.0),
    }
    position = 0
    for group, rows in panel.groups:
        ticks.append((position, group, True))
        for row in rows:
            position += 1
            ticks.append((position, row.label, False))
            finite = [value for value in row.folds if np.isfinite(value)]
            values = {"fold": finite, "mean of the folds": [float(np.mean(finite))] if finite else [], "final test": [row.test]}
            for kind, (marker, size, alpha) in marks.items():
                shown = [value for value in values[kind] if np.isfinite(value)]
                known += shown
                heights = np.full(len(shown), position)
                axes.plot(
                    shown,
                    heights,
                    color=_series(row.series),
                    marker=marker,
                    linestyle="none",
                    markersize=size,
                    alpha=alpha,
                    markeredgewidth=1.6 if marker == "|" else 0.0,
                )
        position += 1
    for kind, (marker, size, alpha) in marks.items():
        axes.plot(
            [],
            [],
            color=SOFT,
            marker=marker,
            linestyle="none",
            markersize=size,
            alpha=alpha,
            markeredgewidth=1.6 if marker == "|" else 0.0,
            label=kind,
        )
    margin = max(0.02, 0.06 * (max(known) - min(known)))
    axes.set_xlim(min(known) - margin, max(known) + margin)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_yticks([place for place, _, _ in ticks], [_short(label) for _, label, _ in ticks])
    for label, (_, _, bold) in zip(axes.get_yticklabels(), ticks, strict=True):
        label.set_fontweight("bold" if bold else "normal")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title(panel.label)
    axes.grid(axis="x")


def importance(name: str, bars: ImportanceBars) -> Markup:
    """Plot two bars per input, most important on top: permutation with its deviation, and SHAP."""
    with _style(name):
        figure, axes = _figure(3.7, 1.15 + 0.3 * max(len(bars.inputs), 3))
        rows = np.arange(len(bars.inputs))
        error = {"ecolor": INK, "elinewidth": 1.0}
        axes.barh(
            rows - 0.19,
            100 * bars.permutation,
            height=0.36,
            color=SERIES[0],
            xerr=100 * bars.deviation,
            error_kw=error,
            label="permutation",
        )
        axes.barh(rows + 0.19, 100 * bars.shap, height=0.36, color=SERIES[4], label="SHAP")
        axes.axvline(0.0, color=INK, linewidth=1.0)
        axes.set_yticks(rows, [_short(label) for label in bars.inputs])
        axes.set_ylim(len(bars.inputs) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlabel("share of the importance, %")
        figure.legend(loc="outside upper left", ncols=2, fontsize=9, handlelength=1.2)
        return _inline(figure, name)


def coefficients(name: str, names: Sequence[str], values: Sequence[float], label: str) -> Markup:
    """Plot coefficients as horizontal bars, in the order given (top first)."""
    with _style(name):
        figure, axes = _figure(3.7, 0.75 + 0.235 * max(len(names), 3))
        rows = np.arange(len(names))
        axes.barh(rows, values, color=[SERIES[0] if value >= 0 else SERIES[1] for value in values], height=0.66)
        axes.axvline(0.0, color=INK, linewidth=1.0)
        axes.set_yticks(rows, [_short(name) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlabel(label)
        return _inline(figure, name)


def reliability(name: str, bins: ReliabilityBins, overall: float, probability: bool, before: ReliabilityBins | None = None) -> Markup:
    """Plot observed against predicted per bin, with the count of trades below each bin.

    Parameters
    ----------
    name
        Prefix of the ids in the SVG.
    bins
        Of what the model gives.
    overall
        Mean of everything observed.
    probability
        Whether predictions are probabilities, which should lie on the diagonal.
    before
        The same trades in bins of the scores before the calibration.
    """
    with _style(name):
        figure, axes = _figure(3.7, 2.9)
        low, high = float(min(bins.predicted.min(), bins.lower.min())), float(max(bins.predicted.max(), bins.upper.max()))
        if before is not None:
            low, high = min(low, float(before.predicted.min())), max(high, float(before.predicted.max()))
        margin = 0.06 * (high - low) or 0.05
        if probability:
            # The diagonal ends above the counts.
            begin = max(low - margin, float(bins.lower.min()))
            axes.plot([begin, high + margin], [begin, high + margin], color=SOFT, linewidth=1.0)
        axes.axhline(overall, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
        errors = np.vstack([bins.observed - bins.lower, bins.upper - bins.observed])
        axes.errorbar(
            bins.predicted,
            bins.observed,
            yerr=errors,
            color=SERIES[0],
            marker="o",
            linestyle="none",
            elinewidth=1.2,
            markersize=6,
            label="calibrated",
        )
        bottom, top = float(bins.lower.min()), float(bins.upper.max())
        if before is not None:
            axes.plot(
                before.predicted,
                before.observed,
                color=SERIES[1],
                marker="s",
                markerfacecolor="none",
                markersize=6,
                linewidth=1.0,
                label="before the calibration",
            )
            bottom, top = min(bottom, float(before.observed.min())), max(top, float(before.observed.max()))
            _legend_below(axes, 2)
        bottom -= 0.22 * ((top - bottom) or 0.1)  # room for the counts
        axes.set_ylim(bottom, None)
        for position, (x, count) in enumerate(zip(bins.predicted, bins.count, strict=True)):
            # Neighbouring counts stand on two lines so that they never overlap.
            axes.annotate(
                f"{count}", (x, bottom), (0, 3 + 10 * (position % 2)), textcoords="offset points", ha="center", fontsize=8, color=INK
            )
        axes.set_xlabel("predicted probability" if probability else "prediction")
        axes.set_title("observed share of wins" if probability else "observed mean outcome")
        axes.grid(axis="y")
        return _inline(figure, name)


def equity(name: str, curves: Sequence[Curve]) -> Markup:
    """Plot cumulated PnL in USD, and below it the distance from the last peak."""
    with _style(name):
        figure = Figure(figsize=(7.0, 4.9), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1.0])
        for curve in curves:
            colour = BASE if curve.series is None else _series(curve.series)
            line = "-" if curve.series is None else LINES[curve.series % len(LINES)]
            width = 2.2 if curve.series is None else 1.6
            upper.plot(curve.times, curve.equity, color=colour, linestyle=line, linewidth=width, label=_short(curve.label))
            lower.plot(curve.times, curve.drawdown, color=colour, linestyle=line, linewidth=1.2)
        upper.axhline(0.0, color=INK, linewidth=0.8)
        upper.set_title("net PnL, USD")
        lower.set_title("drawdown from the last peak, USD")
        for axes in (upper, lower):
            axes.grid(axis="y")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}".replace("-", "\N{MINUS SIGN}"))
        locator = AutoDateLocator(minticks=3, maxticks=7)
        lower.xaxis.set_major_locator(locator)
        lower.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=True))
        upper.legend(loc="lower left", bbox_to_anchor=(0.0, 1.13), ncols=2, fontsize=9, borderaxespad=0.0, handlelength=2.6)
        return _inline(figure, name)


def _short(label: str) -> str:
    return shorten(label, LONGEST_NAME, placeholder="\N{HORIZONTAL ELLIPSIS}")


def _series(number: int) -> str:
    return SERIES[number % len(SERIES)]


def _style(name: str) -> AbstractContextManager[None]:
    return mpl.rc_context({**_STYLE, "svg.hashsalt": name})


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _legend_below(axes: Axes, columns: int) -> None:
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=columns, fontsize=9, handletextpad=0.1, columnspacing=0.9)


def _inline(figure: Figure, name: str) -> Markup:
    """Write the figure as SVG that can stand inside a page beside others."""
    stream = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = stream.getvalue().decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    # Ids are unique in a file, not in a page.
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(|href=")#', rf"\1#{name}-", text)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1)
    # The page's own font and its rule for line joins hold for the figures as well.
    text = re.sub(r" font-family: [^;\"]*;?", "", text)
    text = re.sub(r"\s*<style.*?</style>", "", text, flags=re.DOTALL)
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, variable)
    return Markup(text)  # noqa: S704 - made here from numbers and from names that matplotlib escapes
