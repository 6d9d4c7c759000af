"""What a Sharpe ratio is worth after a search: PSR, minimum track record, DSR and PBO.

Sharpe ratios here are per row (per trade, or per day where the rows are days), never annualised:
mean over standard deviation (n - 1) of the rows. To use an annual figure, divide it by the square
root of the rows per year, and an annual variance of Sharpe ratios by the rows per year.

The first three statistics take the rows as independent. Trades of one day are not; sums per day
come closer.

References
----------
- Bailey and Lopez de Prado (2012), The Sharpe Ratio Efficient Frontier, Journal of Risk 15(2):
  the probabilistic Sharpe ratio and the minimum track record length.
- Bailey and Lopez de Prado (2014), The Deflated Sharpe Ratio, Journal of Portfolio Management 40(5).
- Bailey, Borwein, Lopez de Prado and Zhu (2017), The Probability of Backtest Overfitting, Journal of
  Computational Finance 20(4): combinatorially symmetric cross-validation (CSCV).
- Lopez de Prado and Lewis (2019), Detection of False Investment Strategies Using Unsupervised Learning
  Methods, Quantitative Finance 19(9): clusters of trials.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from pipelines.errors import DataRefusedError, SettingsError

Floats = NDArray[np.float64]
Statistic = Callable[[Floats, Floats], Floats]
"""A score from the means and the standard deviations (n - 1) of many samples; larger is better."""

MINIMUM_ROWS = 3
MAXIMUM_BLOCKS = 20
"""C(20, 10) = 184,756 combinations; every two blocks more are nearly four times as many."""

ROUNDING = 1e-10
"""Relative difference up to which two numbers count as equal: far above what sums lose, far below any meaning."""


@dataclass(frozen=True)
class TrackRecord:
    """What the Sharpe statistics need to know of a series of returns.

    Attributes
    ----------
    sharpe
        Mean over standard deviation, per row.
    rows
        Number of returns, at least 3.
    skew
        Third standardised moment.
    kurtosis
        Fourth standardised moment; 3 for a normal distribution (not the excess).

    Raises
    ------
    DataRefusedError
        A value is not finite, there are fewer than 3 rows, or the kurtosis lies below
        1 + skew^2, which no distribution can have (an excess kurtosis gives itself away so).
    """

    sharpe: float
    rows: int
    skew: float
    kurtosis: float

    def __post_init__(self) -> None:
        values = (self.sharpe, self.skew, self.kurtosis)
        if not all(math.isfinite(value) for value in values):
            raise DataRefusedError(f"Sharpe ratio, skew and kurtosis are {values}", limit="finite numbers", remedy="check the returns")
        if self.rows < MINIMUM_ROWS:
            raise DataRefusedError(f"{self.rows} return(s)", limit=f"at least {MINIMUM_ROWS}", remedy="collect more trades")
        if self.kurtosis < (1.0 + self.skew**2) * (1.0 - 1e-9):
            raise DataRefusedError(
                f"kurtosis {self.kurtosis:g} with skew {self.skew:g}",
                limit=f"at least 1 + skew^2 = {1.0 + self.skew**2:g}",
                remedy="give the kurtosis, not its excess over 3",
            )


@dataclass(frozen=True)
class ProbabilisticSharpe:
    """Probability that the true Sharpe ratio lies above a benchmark.

    Attributes
    ----------
    probability
        Between 0 and 1.
    benchmark
        Sharpe ratio per row that is to be beaten.
    deviation
        Standard error of the estimated Sharpe ratio.
    record
        The moments it was computed from.
    """

    probability: float
    benchmark: float
    deviation: float
    record: TrackRecord


@dataclass(frozen=True)
class MinimumTrackRecord:
    """How many rows the claim "above the benchmark" takes.

    Attributes
    ----------
    needed
        Rows, not rounded; infinite when the Sharpe ratio does not exceed the benchmark.
    enough
        Whether there are that many.
    benchmark, confidence
        The claim.
    record
        The moments it was computed from.
    """

    needed: float
    enough: bool
    benchmark: float
    confidence: float
    record: TrackRecord


@dataclass(frozen=True)
class Trials:
    """How much was tried before the best was chosen.

    Attributes
    ----------
    number
        How many trials; a fraction where it is an effective number.
    variance
        Of the Sharpe ratios per row over the trials; may be 0 only for a single trial.
    """

    number: float
    variance: float

    def __post_init__(self) -> None:
        _check_trials(self.number, self.variance)
        if self.variance == 0.0 and self.number > 1:
            raise DataRefusedError(
                f"the Sharpe ratios of {self.number:g} trials have no variance",
                limit="trials that differ",
                remedy="count trials that are all the same as one: Trials(1, 0.0)",
            )


@dataclass(frozen=True)
class DeflatedSharpe:
    """Probability that the true Sharpe ratio lies above what the best of so many worthless trials would show.

    Attributes
    ----------
    probability
        Between 0 and 1.
    benchmark
        Expected maximum of the trials' Sharpe ratios when none is worth anything, per row.
    undeflated
        The same probability against 0: as if there had been no search.
    trials
        The number and variance it was deflated by.
    record
        The moments it was computed from.
    """

    probability: float
    benchmark: float
    undeflated: float
    trials: Trials
    record: TrackRecord


@dataclass(frozen=True, eq=False)
class Overfitting:
    """How often the trial that looks best on half of the history is a poor one on the other half.

    Attributes
    ----------
    judged
        False when the data allow no statement; the numbers are NaN and the arrays empty then.
    reason
        Why it was not judged, or empty.
    probability
        Probability of backtest overfitting: share of the combinations in which the in-sample
        best ranks at or below the median out of sample (logit <= 0).
    probability_of_loss
        Share of the combinations in which the in-sample best scores below 0 out of sample.
    slope, intercept
        Least-squares line of its out-of-sample score over its in-sample score, over the
        combinations. The two halves share one history, so chance alone makes the slope negative;
        it says how far the score degrades, and is no test. NaN when the in-sample score never changes.
    logits
        Shape (combinations,): ln(r / (N + 1 - r)) with r the out-of-sample rank of the in-sample
        best, 1 the worst and N the best of N trials; read-only.
    in_sample, out_of_sample
        Shape (combinations,): scores of the in-sample best; read-only.
    trials, left_out
        Complete trials that were ranked; trials left out because they hold NaN.
    constant
        Ranked trials whose return never changes (a policy that never trades).
    rows, blocks
        Shape of the history, and into how many blocks it was cut.
    """

    judged: bool
    reason: str
    probability: float
    probability_of_loss: float
    slope: float
    intercept: float
    logits: Floats = field(repr=False)
    in_sample: Floats = field(repr=False)
    out_of_sample: Floats = field(repr=False)
    trials: int
    left_out: int
    constant: int
    rows: int
    blocks: int


def track_record(returns: Floats) -> TrackRecord:
    """Moments of a series of returns.

    Parameters
    ----------
    returns
        Shape (n,), n >= 3: any unit, in any order.

    Raises
    ------
    DataRefusedError
        Fewer than 3 returns, a value that is not finite, or returns that are all the same.

    Examples
    --------
    >>> record = track_record(np.array([1.0, -1.0, 2.0, 2.0]))
    >>> round(record.sharpe, 4), record.rows, round(record.skew, 4), round(record.kurtosis, 4)
    (0.7071, 4, -0.8165, 2.0)
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 1:
        raise DataRefusedError(f"returns of shape {values.shape}", limit="one dimension", remedy="give one series of returns")
    if len(values) < MINIMUM_ROWS:
        raise DataRefusedError(f"{len(values)} return(s)", limit=f"at least {MINIMUM_ROWS}", remedy="collect more trades")
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise DataRefusedError(
            f"{bad} of {len(values)} returns are NaN or infinite", limit="finite returns", remedy="leave these trades out"
        )
    mean = float(values.mean())
    centred = values - mean
    # Equal values leave a deviation of rounding size.
    if float(np.abs(centred).max()) <= ROUNDING * float(np.abs(values).max()):
        raise DataRefusedError(
            f"all {len(values)} returns are {values[0]:g}", limit="returns that vary", remedy="check the profit and loss of these trades"
        )
    # Brought to unit size first, so that no power of a tiny or huge return leaves the floating-point range.
    unit = centred / np.abs(centred).max()
    second = float((unit**2).mean())
    skew = float((unit**3).mean()) / second**1.5
    kurtosis = float((unit**4).mean()) / second**2
    deviation = math.sqrt(second * len(values) / (len(values) - 1)) * float(np.abs(centred).max())
    return TrackRecord(mean / deviation, len(values), skew, kurtosis)


def probabilistic_sharpe(returns: Floats | TrackRecord, benchmark: float = 0.0) -> ProbabilisticSharpe:
    """Probability that the true Sharpe ratio is above a benchmark, for returns that need not be normal.

    With the Sharpe ratio S of n rows, skew g and kurtosis k:

        PSR(b) = Phi((S - b) sqrt(n - 1) / sqrt(1 - g S + (k - 1) S^2 / 4)).

    Bailey and Lopez de Prado (2012), section 3. The expansion is meant for Sharpe ratios per row well
    below 1; where g S exceeds 2 a larger Sharpe ratio would even lower it.

    Parameters
    ----------
    returns
        Shape (n,), or their moments.
    benchmark
        Sharpe ratio per row.

    Raises
    ------
    DataRefusedError
        As `track_record`; a benchmark that is not finite; returns whose standard error vanishes.

    Examples
    --------
    Two years of months with a Sharpe ratio of 1.59 a year are not yet skill when they hide a fat left tail:

    >>> round(probabilistic_sharpe(TrackRecord(0.458, 24, 0.0, 3.0)).probability, 3)
    0.982
    >>> round(probabilistic_sharpe(TrackRecord(0.458, 24, -2.448, 10.164)).probability, 3)
    0.913
    """
    record = _record(returns)
    _check_benchmark(benchmark)
    deviation = math.sqrt(_spread(record) / (record.rows - 1))
    return ProbabilisticSharpe(float(stats.norm.cdf((record.sharpe - benchmark) / deviation)), benchmark, deviation, record)


def minimum_track_record(returns: Floats | TrackRecord, benchmark: float = 0.0, confidence: float = 0.95) -> MinimumTrackRecord:
    """Number of rows from which the probabilistic Sharpe ratio reaches a confidence.

    It takes the moments as they are: that more rows would repeat them is an assumption.
    Bailey and Lopez de Prado (2012), section 4.

    Parameters
    ----------
    returns
        Shape (n,), or their moments.
    benchmark
        Sharpe ratio per row.
    confidence
        Between 0.5 and 1, both excluded.

    Raises
    ------
    SettingsError
        A confidence outside its range.
    DataRefusedError
        As `probabilistic_sharpe`.

    Examples
    --------
    A Sharpe ratio of 2 a year against 1 a year, on daily returns, takes 2.73 years:

    >>> record = TrackRecord(2 / 252**0.5, 252, 0.0, 3.0)
    >>> round(minimum_track_record(record, benchmark=1 / 252**0.5).needed / 252, 2)
    2.73
    """
    record = _record(returns)
    _check_benchmark(benchmark)
    if not 0.5 < confidence < 1.0:
        raise SettingsError(f"confidence {confidence:g}", limit="between 0.5 and 1", remedy="give 0.95")
    gap = record.sharpe - benchmark
    needed = math.inf
    if gap > 0.0:
        # Multiplied, since the power of a huge number would raise; a tiny gap shall give infinity.
        ratio = math.sqrt(_spread(record)) * float(stats.norm.ppf(confidence)) / gap
        needed = 1.0 + ratio * ratio
    return MinimumTrackRecord(needed, record.rows >= needed, benchmark, confidence, record)


def expected_maximum_sharpe(trials: float, variance: float) -> float:
    """Sharpe ratio that the best of many worthless, independent trials is expected to show.

    With e Euler's number and c = 0.5772 the Euler-Mascheroni constant:

        sqrt(V) ((1 - c) Phi^-1(1 - 1 / N) + c Phi^-1(1 - 1 / (N e))).

    Bailey and Lopez de Prado (2014), equation 1. An approximation for many trials: 8 % below the true
    value for two, up to 3 % above it from three on. Where it would be negative (N below 1.3) it is 0.

    Parameters
    ----------
    trials
        At least 1; may be a fraction.
    variance
        Of the Sharpe ratios per row over the trials.

    Returns
    -------
    float
        Per row; 0 for one trial.

    Raises
    ------
    DataRefusedError
        Fewer than one trial, or a variance that is negative or not finite.

    Examples
    --------
    100 trials over days, the variance of their annual Sharpe ratios is 1/2, a year has 250 days:

    >>> round(expected_maximum_sharpe(100, 0.5 / 250), 4)
    0.1132
    """
    _check_trials(trials, variance)
    if trials == 1:
        return 0.0
    largest = (1.0 - np.euler_gamma) * stats.norm.isf(1.0 / trials) + np.euler_gamma * stats.norm.isf(1.0 / (trials * math.e))
    return max(0.0, math.sqrt(variance) * float(largest))


def deflated_sharpe(returns: Floats | TrackRecord, trials: Floats | Trials) -> DeflatedSharpe:
    """Probabilistic Sharpe ratio against the expected maximum of all trials.

    Bailey and Lopez de Prado (2014), equation 2. Deflate by everything that was tried, not only by what was kept.
    The best of many worthless trials varies less than a single one, so a limit of 95 % lets fewer than
    5 % of worthless searches through.

    An effective number of trials (`effective_trials`) may be given in `Trials`. It is the milder choice, and
    not always right: trials that correlate also have Sharpe ratios that vary less, and this variance already
    lowers the benchmark. With all pairs equally correlated, the plain number and the observed variance
    give the right expectation, and an effective number corrects a second time.

    Parameters
    ----------
    returns
        Shape (n,): of the chosen trial, or their moments.
    trials
        Shape (trials,): Sharpe ratio per row of every trial, or their number and variance. A NaN is a
        pruned trial: it counts in the number, since it was looked at, and not in the variance (n - 1).

    Raises
    ------
    DataRefusedError
        As `probabilistic_sharpe`; fewer than 2 Sharpe ratios, an infinite one, or no variance among them.

    Examples
    --------
    A Sharpe ratio of 2.5 a year over five years of 250 days, the best of 100 trials:

    >>> record = TrackRecord(2.5 / 250**0.5, 1250, -3.0, 10.0)
    >>> round(deflated_sharpe(record, Trials(100, 0.5 / 250)).probability, 4)
    0.9004
    """
    record = _record(returns)
    searched = trials if isinstance(trials, Trials) else _trials_of(trials)
    benchmark = expected_maximum_sharpe(searched.number, searched.variance)
    return DeflatedSharpe(
        probabilistic_sharpe(record, benchmark).probability, benchmark, probabilistic_sharpe(record).probability, searched, record
    )


def effective_trials(returns: Floats, method: Literal["correlation", "clusters"] = "correlation", threshold: float = 0.5) -> float:
    """Number of independent trials that a set of correlated ones amounts to.

    - "correlation": m + (1 - m) N, with m the mean correlation over all pairs, cut to 0 to 1
      (Bailey and Lopez de Prado 2014, appendix). It ignores how the correlations are arranged:
      two families of perfect copies count as N / 2, not as 2.
    - "clusters": the number of clusters of trials, by average linkage; two clusters join while the mean
      correlation between them is at least `threshold`. (Lopez de Prado and Lewis count clusters by k-means;
      the linkage needs no random start.)

    Parameters
    ----------
    returns
        Shape (rows, trials). Trials with NaN or without variation are counted as one more trial each:
        nothing is known of what they share.
    method
        See above.
    threshold
        Correlation above 0 and up to 1; for "clusters".

    Returns
    -------
    float
        Between 1 and the number of trials.

    Raises
    ------
    DataRefusedError
        Not a matrix, fewer than 3 rows, no trial, or an infinite value.
    SettingsError
        A threshold outside its range, or an unknown method.

    Examples
    --------
    Two series, each three times:

    >>> series = np.random.default_rng(0).normal(size=(500, 2))
    >>> effective_trials(np.repeat(series, 3, axis=1), "clusters")
    2.0
    """
    if method not in ("correlation", "clusters"):
        raise SettingsError(f"method {method!r}", limit="'correlation' or 'clusters'")
    if not 0.0 < threshold <= 1.0:
        raise SettingsError(f"threshold {threshold:g}", limit="above 0 and up to 1", remedy="give 0.5")
    matrix = _matrix(returns)
    rows, trials = matrix.shape
    if rows < MINIMUM_ROWS or not trials:
        raise DataRefusedError(
            f"{rows} row(s) of {trials} trial(s)", limit=f"at least {MINIMUM_ROWS} rows and one trial", remedy="collect more trades"
        )
    usable = matrix[:, ~np.isnan(matrix).any(axis=0)]
    usable = usable[:, ~_constant(usable)]
    known = usable.shape[1]
    alone = trials - known
    if known < 2:
        return float(trials)
    correlation = np.corrcoef(usable, rowvar=False)
    if method == "correlation":
        mean = float((correlation.sum() - known) / (known * (known - 1)))
        mean = min(max(mean, 0.0), 1.0)
        return alone + mean + (1.0 - mean) * known
    distance = np.clip(1.0 - correlation, 0.0, 2.0)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), method="average")
    labels = fcluster(tree, 1.0 - threshold + ROUNDING, criterion="distance")
    return float(alone + len(np.unique(labels)))


def sharpe(mean: Floats, deviation: Floats) -> Floats:
    """Sharpe ratio; 0 where nothing varies, so that a trial that never trades has neither merit nor fault.

    Examples
    --------
    >>> sharpe(np.array([1.0, 3.0]), np.array([2.0, 0.0])).tolist()
    [0.5, 0.0]
    """
    return np.divide(mean, deviation, out=np.zeros_like(mean), where=deviation > 0.0)


def mean_return(mean: Floats, deviation: Floats) -> Floats:  # noqa: ARG001
    """Mean alone: expectancy per row.

    Examples
    --------
    >>> mean_return(np.array([1.0, 3.0]), np.array([2.0, 0.0])).tolist()
    [1.0, 3.0]
    """
    return mean


def probability_of_overfitting(
    returns: Floats, blocks: int = 16, statistic: Statistic = sharpe, *, memory_mb: float = 200.0
) -> Overfitting:
    """Probability of backtest overfitting by combinatorially symmetric cross-validation (CSCV).

    The history is cut into `blocks` consecutive blocks of equal size (to within one row). Every
    choice of half of them is in-sample once, the rest out of sample; the trial that is best in-sample is
    ranked out of sample among all. Bailey, Borwein, Lopez de Prado and Zhu (2017), sections 2 and 3.

    No half is ever visited row by row: means and deviations follow from the blocks' sums and sums of
    squares by matrix products. A rank at the median counts as overfit (as the paper's integral up to 0
    has it), so for an odd number N of worthless trials the expected value is 1/2 + 1/(2 N).

    The combinations share one history, so a single estimate is coarse: over repeated worthless searches
    (100 trials, 1,000 rows, 16 blocks) it scatters around 1/2 with a standard deviation near 0.15.

    Trials that score the same share their mean rank. Where several are best in-sample, the
    out-of-sample rank and score are their means, so the order of the trials never matters.

    Parameters
    ----------
    returns
        Shape (rows, trials): what each trial earned, rows in time order, 0 where a trial did not trade.
        A trial with NaN (pruned) is left out and counted. The returns must come from outside the rows that
        the trial was fitted on; the borders of the blocks are not purged.
    blocks
        Even, 2 to 20.
    statistic
        Score from mean and standard deviation: `sharpe`, `mean_return`, or a function of the same shape.
    memory_mb
        Upper bound of the working memory for the combinations, in 10^6 bytes.

    Returns
    -------
    Overfitting
        `judged` is False with fewer than 2 complete trials, fewer than 2 rows a block, or trials that
        score the same on every half.

    Raises
    ------
    SettingsError
        An odd or impossible number of blocks, or a memory bound that is not positive.
    DataRefusedError
        Not a matrix, an infinite return, or a statistic whose scores are not finite numbers.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(320, 10))
    >>> found = probability_of_overfitting(noise, blocks=8)
    >>> len(found.logits), round(found.probability, 2)
    (70, 0.34)
    >>> noise[:, 3] += 0.5
    >>> probability_of_overfitting(noise, blocks=8).probability
    0.0
    """
    if blocks % 2 or not 2 <= blocks <= MAXIMUM_BLOCKS:
        raise SettingsError(f"{blocks} blocks", limit=f"an even number from 2 to {MAXIMUM_BLOCKS}", remedy="give 16")
    if not memory_mb > 0.0:
        raise SettingsError(f"memory of {memory_mb:g} MB", limit="above 0", remedy="give 200")
    matrix = _matrix(returns)
    pruned = np.isnan(matrix).any(axis=0)
    left_out = int(pruned.sum())
    complete = matrix[:, ~pruned] if left_out else matrix
    rows, trials = complete.shape
    constant = int(_constant(complete).sum()) if complete.size else 0

    def refuse(reason: str) -> Overfitting:
        nothing = _read_only(np.empty(0))
        nan = math.nan
        return Overfitting(False, reason, nan, nan, nan, nan, nothing, nothing, nothing, trials, left_out, constant, rows, blocks)

    if trials < 2:
        return refuse(f"{trials} complete trial(s) of {trials + left_out}; ranking takes at least 2")
    if rows < 2 * blocks:
        return refuse(f"{rows} row(s) for {blocks} blocks; it takes at least 2 a block, {2 * blocks}")
    logits, in_sample, out_of_sample, apart = _rank_halves(complete, blocks, statistic, memory_mb * 1e6)
    if not apart:
        return refuse(f"all {trials} complete trials score the same on every half; there was nothing to choose")
    slope, intercept = _line(in_sample, out_of_sample)
    return Overfitting(
        judged=True,
        reason="",
        probability=float((logits <= 0.0).mean()),
        probability_of_loss=float((out_of_sample < 0.0).mean()),
        slope=slope,
        intercept=intercept,
        logits=_read_only(logits),
        in_sample=_read_only(in_sample),
        out_of_sample=_read_only(out_of_sample),
        trials=trials,
        left_out=left_out,
        constant=constant,
        rows=rows,
        blocks=blocks,
    )


@dataclass(frozen=True)
class _Blocks:
    """Per block, shape (blocks,) and (blocks, trials): rows, sums and sums of squares around `centre`, shape (trials,)."""

    rows: Floats
    sums: Floats
    squares: Floats
    centre: Floats

    def scores(self, chosen: Floats, statistic: Statistic) -> Floats:
        """Score the trials on the chosen blocks, (combinations, blocks) of 0 and 1 -> (combinations, trials)."""
        count = (chosen @ self.rows)[:, None]
        mean = chosen @ self.sums
        mean /= count
        variance = chosen @ self.squares
        variance /= count
        # What is left of a half without variation is of rounding size, of either sign.
        floor = variance * ROUNDING + (ROUNDING * self.centre) ** 2
        variance -= mean**2
        variance[variance <= floor] = 0.0
        variance *= count / (count - 1.0)
        mean += self.centre
        found = np.asarray(statistic(mean, np.sqrt(variance, out=variance)), dtype=np.float64)
        if found.shape != (len(chosen), len(self.centre)) or not np.isfinite(found).all():
            raise DataRefusedError(
                f"the statistic gave {found.size} score(s), {int((~np.isfinite(found)).sum())} of them not finite",
                limit="a finite score for every mean and deviation",
                remedy="let the statistic give 0 where it is not defined, and check the size of the returns",
            )
        return found


def _rank_halves(matrix: Floats, blocks: int, statistic: Statistic, memory: float) -> tuple[Floats, Floats, Floats, bool]:
    """Logit, in-sample and out-of-sample score of the in-sample best per combination; whether any score tells trials apart."""
    summed = _block_sums(matrix, blocks)
    chosen = np.zeros((math.comb(blocks, blocks // 2), blocks))
    picks = np.array(list(combinations(range(blocks), blocks // 2)))
    np.put_along_axis(chosen, picks, 1.0, axis=1)
    # In lexicographic order the complement of combination i is combination -1 - i: one pair of scores serves both.
    pairs = len(chosen) // 2
    # Some ten arrays of (combinations, trials) live at once.
    step = max(1, int(memory / (10 * 8 * matrix.shape[1])))
    ranks, best, after = np.empty((3, len(chosen)))
    apart = False
    for first in range(0, pairs, step):
        here = slice(first, min(first + step, pairs))
        there = len(chosen) - 1 - np.arange(here.start, here.stop)
        score, opposite = summed.scores(chosen[here], statistic), summed.scores(chosen[there], statistic)
        ranks[here], best[here], after[here], differ = _rank_best(score, opposite)
        ranks[there], best[there], after[there], differ_too = _rank_best(opposite, score)
        apart = apart or differ or differ_too
    return np.log(ranks / (matrix.shape[1] + 1.0 - ranks)), best, after, apart


def _block_sums(matrix: Floats, blocks: int) -> _Blocks:
    # Around the trial's mean, or the squares would drown the variance of returns far from 0.
    with np.errstate(over="ignore"):
        centre = matrix.mean(axis=0)
    parts = np.array_split(matrix, blocks)
    sums, squares = np.empty((2, blocks, matrix.shape[1]))
    for number, part in enumerate(parts):
        with np.errstate(over="ignore", invalid="ignore"):
            deviation = part - centre
            sums[number] = deviation.sum(axis=0)
            squares[number] = np.einsum("ij,ij->j", deviation, deviation)
    if not np.isfinite(squares).all():
        raise DataRefusedError(
            f"returns up to {np.abs(matrix).max():g} have squares beyond floating point",
            limit="returns below 1e150",
            remedy="check the trials",
        )
    return _Blocks(np.array([float(len(part)) for part in parts]), sums, squares, centre)


def _rank_best(inside: Floats, outside: Floats) -> tuple[Floats, Floats, Floats, bool]:
    """Mean out-of-sample rank of the in-sample best, its two scores, and whether any row of `inside` has unequal scores.

    Parameters
    ----------
    inside, outside
        Shape (combinations, trials).
    """
    every = np.arange(len(inside))
    winner = inside.argmax(axis=1)
    best = inside[every, winner]
    lowest = inside.min(axis=1)
    near_inside = ROUNDING * np.maximum(np.abs(best), np.abs(lowest))
    near_outside = ROUNDING * np.maximum(outside.max(axis=1), -outside.min(axis=1))
    after = outside[every, winner].copy()
    below = np.count_nonzero(outside < (after - near_outside)[:, None], axis=1)
    up_to = np.count_nonzero(outside <= (after + near_outside)[:, None], axis=1)
    ranks = (below + up_to + 1) / 2.0
    tied = np.count_nonzero(inside >= (best - near_inside)[:, None], axis=1) > 1
    for row in np.flatnonzero(tied):
        among = outside[row, inside[row] >= best[row] - near_inside[row]]
        ordered = np.sort(outside[row])
        lower = np.searchsorted(ordered, among - near_outside[row], side="left")
        upper = np.searchsorted(ordered, among + near_outside[row], side="right")
        ranks[row] = float((lower + upper + 1).mean()) / 2.0
        after[row] = among.mean()
    return ranks, best, after, bool((best - lowest > near_inside).any())


def _line(x: Floats, y: Floats) -> tuple[float, float]:
    around = x - x.mean()
    spread = float(around @ around)
    if float(np.abs(around).max()) <= ROUNDING * float(np.abs(x).max()):
        return math.nan, math.nan
    slope = float(around @ (y - y.mean())) / spread
    return slope, float(y.mean()) - slope * float(x.mean())


def _record(returns: Floats | TrackRecord) -> TrackRecord:
    return returns if isinstance(returns, TrackRecord) else track_record(returns)


def _spread(record: TrackRecord) -> float:
    """Variance of the estimated Sharpe ratio times n - 1; never negative, since kurtosis >= 1 + skew^2."""
    spread = 1.0 - record.skew * record.sharpe + (record.kurtosis - 1.0) / 4.0 * record.sharpe**2
    if not spread > 1e-9:
        raise DataRefusedError(
            f"the standard error of Sharpe ratio {record.sharpe:g} with skew {record.skew:g} and kurtosis {record.kurtosis:g} vanishes",
            limit="returns with more than two values",
            remedy="collect more trades",
        )
    return spread


def _trials_of(sharpes: Floats) -> Trials:
    values = np.asarray(sharpes, dtype=np.float64)
    if values.ndim != 1:
        raise DataRefusedError(f"trial Sharpe ratios of shape {values.shape}", limit="one dimension", remedy="give one number a trial")
    if np.isinf(values).any():
        raise DataRefusedError(f"{int(np.isinf(values).sum())} infinite trial Sharpe ratio(s)", limit="numbers, or NaN for a pruned trial")
    finished = values[~np.isnan(values)]
    if len(finished) < 2:
        raise DataRefusedError(
            f"{len(finished)} Sharpe ratio(s) of {len(values)} trial(s)",
            limit="at least 2, or their variance is unknown",
            remedy="without a search use probabilistic_sharpe",
        )
    variance = float(finished.var(ddof=1))
    same = float(np.ptp(finished)) <= ROUNDING * float(np.abs(finished).max())
    return Trials(float(len(values)), 0.0 if same else variance)


def _check_benchmark(benchmark: float) -> None:
    if not math.isfinite(benchmark):
        raise DataRefusedError(f"benchmark {benchmark}", limit="a finite Sharpe ratio per row", remedy="give 0")


def _check_trials(number: float, variance: float) -> None:
    if not (math.isfinite(number) and number >= 1):
        raise DataRefusedError(f"{number:g} trials", limit="at least 1", remedy="count every configuration that was tried")
    if not (math.isfinite(variance) and variance >= 0.0):
        raise DataRefusedError(f"variance {variance:g} of the trials' Sharpe ratios", limit="finite and not negative")


def _matrix(returns: Floats) -> Floats:
    matrix = np.asarray(returns, dtype=np.float64)
    if matrix.ndim != 2:
        raise DataRefusedError(f"returns of shape {matrix.shape}", limit="(rows, trials)", remedy="give one column a trial")
    infinite = int(np.isinf(matrix).sum())
    if infinite:
        raise DataRefusedError(f"{infinite} infinite return(s)", limit="numbers, or NaN in pruned trials", remedy="check the trials")
    return matrix


def _constant(matrix: Floats) -> NDArray[np.bool_]:
    low, high = matrix.min(axis=0), matrix.max(axis=0)
    return np.asarray(high - low <= ROUNDING * np.maximum(np.abs(low), np.abs(high)))


def _read_only(values: Floats) -> Floats:
    values.setflags(write=False)
    return values
