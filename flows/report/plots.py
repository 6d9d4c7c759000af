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
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Stand-ins that matplotlib draws with; `_inline` puts the page's variables in their place.
INK, SOFT, GRID = "#010101", "#020202", "#030303"
SERIES = ("#040404", "#050505", "#060606")
BASE = "#070707"
_VARIABLES = {
    **{INK: "var(--ink)", SOFT: "var(--soft)", GRID: "var(--grid)", BASE: "var(--base)"},
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)},
}
LONGEST_NAME = 40
"""Characters of a coefficient's name; a longer one would leave no room for its bar."""

MARKERS = ("o", "s", "D")
LINES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 2)), (0, (2, 1.5)))

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
    """One line of the equity figure: USD after each trade, shape (n,)."""

    label: str
    equity: Floats
    drawdown: Floats


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


def coefficients(name: str, names: Sequence[str], values: Sequence[float], label: str) -> Markup:
    """Plot coefficients as horizontal bars, in the order given (top first)."""
    with _style(name):
        figure, axes = _figure(3.7, 0.75 + 0.235 * max(len(names), 3))
        rows = np.arange(len(names))
        axes.barh(rows, values, color=[SERIES[0] if value >= 0 else SERIES[1] for value in values], height=0.66)
        axes.axvline(0.0, color=INK, linewidth=1.0)
        axes.set_yticks(rows, [shorten(name, LONGEST_NAME, placeholder="\N{HORIZONTAL ELLIPSIS}") for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlabel(label)
        return _inline(figure, name)


def reliability(name: str, bins: ReliabilityBins, overall: float, classifier: bool) -> Markup:
    """Plot observed against predicted per bin, with the count of trades below each bin."""
    with _style(name):
        figure, axes = _figure(3.7, 2.9)
        low, high = float(min(bins.predicted.min(), bins.lower.min())), float(max(bins.predicted.max(), bins.upper.max()))
        margin = 0.06 * (high - low) or 0.05
        if classifier:
            axes.plot([low - margin, high + margin], [low - margin, high + margin], color=SOFT, linewidth=1.0)
        axes.axhline(overall, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
        errors = np.vstack([bins.observed - bins.lower, bins.upper - bins.observed])
        axes.errorbar(
            bins.predicted, bins.observed, yerr=errors, color=SERIES[0], marker="o", linestyle="none", elinewidth=1.2, markersize=6
        )
        bottom, top = float(bins.lower.min()), float(bins.upper.max())
        bottom -= 0.22 * ((top - bottom) or 0.1)  # room for the counts
        axes.set_ylim(bottom, None)
        for position, (x, count) in enumerate(zip(bins.predicted, bins.count, strict=True)):
            # Neighbouring counts stand on two lines so that they never overlap.
            axes.annotate(
                f"{count}", (x, bottom), (0, 3 + 10 * (position % 2)), textcoords="offset points", ha="center", fontsize=8, color=INK
            )
        axes.set_xlabel("predicted probability" if classifier else "prediction")
        axes.set_title("observed share of wins" if classifier else "observed mean outcome")
        axes.grid(axis="y")
        return _inline(figure, name)


def equity(name: str, times: NDArray[np.datetime64], curves: Sequence[Curve]) -> Markup:
    """Plot cumulated PnL in USD, and below it the distance from the last peak; the first curve is the baseline."""
    with _style(name):
        figure = Figure(figsize=(7.0, 4.9), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1.0])
        for position, curve in enumerate(curves):
            colour = BASE if position == 0 else SERIES[(position - 1) % len(SERIES)]
            line = "-" if position == 0 else LINES[(position - 1) % len(LINES)]
            upper.plot(times, curve.equity, color=colour, linestyle=line, linewidth=2.2 if position == 0 else 1.6, label=curve.label)
            lower.plot(times, curve.drawdown, color=colour, linestyle=line, linewidth=1.2)
        upper.axhline(0.0, color=INK, linewidth=0.8)
        upper.set_title("net PnL, USD")
        lower.set_title("drawdown from the last peak, USD")
        for axes in (upper, lower):
            axes.grid(axis="y")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}".replace("-", "\N{MINUS SIGN}"))
        locator = AutoDateLocator(minticks=3, maxticks=7)
        lower.xaxis.set_major_locator(locator)
        lower.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=True))
        upper.legend(loc="lower left", bbox_to_anchor=(0.0, 1.09), ncols=2, fontsize=9, borderaxespad=0.0, handlelength=2.6)
        return _inline(figure, name)


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
