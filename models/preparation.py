"""What happens to the twelve features before any model sees them: clip, fill, flag what was missing.

These are steps of the model's own pipeline, so whoever fits the pipeline inside a fold fits them
inside the fold, and the ONNX file that is served holds them as well: training and serving cannot
prepare a feature differently.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from pipelines.errors import InputError
from pipelines.features.twelve import FEATURES

Floats = NDArray[np.float64]

FLAGS = tuple(f"{name}_missing" for name in FEATURES)
"""Columns that `ClipAndFill` appends to the twelve features."""


class ClipAndFill(TransformerMixin, BaseEstimator):
    """Clip to training quantiles, fill missing values with the training median, append missing flags.

    A column without a single training value becomes the constant 0, also where a value turns up
    later: nothing was learnt about it.

    Parameters
    ----------
    clip_quantile
        Values are clipped to this and the opposite training quantile; 0 clips to the extremes seen.

    Attributes
    ----------
    lower_, upper_, median_
        Shape (p,): statistics of the rows that `fit` saw.

    Raises
    ------
    InputError
        While fitting, when a value is infinite.

    Examples
    --------
    >>> nan = float("nan")
    >>> fill = ClipAndFill(0.0).fit(np.array([[1.0, nan], [3.0, nan], [2.0, nan]]))
    >>> fill.transform(np.array([[nan, 5.0], [9.0, nan]])).tolist()
    [[2.0, 0.0, 1.0, 0.0], [3.0, 0.0, 0.0, 1.0]]
    """

    def __init__(self, clip_quantile: float = 0.0) -> None:
        self.clip_quantile = clip_quantile

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002
        """Take quantiles and medians of the present values; X is (n, p) with NaN for missing."""
        values = np.asarray(X, dtype=np.float64)
        _refuse_infinite(values)
        self.n_features_in_ = values.shape[1]
        seen = ~np.isnan(values).all(axis=0)
        filled = np.where(seen, values, 0.0)
        shares = [self.clip_quantile, 0.5, 1.0 - self.clip_quantile]
        self.lower_, self.median_, self.upper_ = np.nanquantile(filled, shares, axis=0)
        return self

    def transform(self, X: Any) -> Floats:
        """Give (n, 2p): the p filled columns, then the p flags."""
        check_is_fitted(self, "median_")
        values = np.asarray(X, dtype=np.float64)
        missing = np.isnan(values)
        filled = np.clip(np.where(missing, self.median_, values), self.lower_, self.upper_)
        return np.hstack([filled, missing.astype(np.float64)])


def _refuse_infinite(values: Floats) -> None:
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        row, column = infinite[0]
        raise InputError(
            f"{len(infinite)} infinite value(s), the first in row {row}, column {column}: {values[row, column]}",
            limit="finite numbers, or NaN where a value is missing",
            remedy="mend the source of the feature",
        )
