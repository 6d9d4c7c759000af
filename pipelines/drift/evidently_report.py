"""One Evidently drift report: the features of a current part against those of a reference part.

Every numeric feature gets the first Wasserstein distance between the two samples divided by the
reference's standard deviation. A relative change of the mean is not used: it divides by zero at
a mean of zero and changes sign with it (DOMAIN E.11). The fixed limit on the distance knows
nothing of sample size and takes rows for independent, so it marks autocorrelated features too
often. The report is therefore information and decides nothing.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.errors import InputError
from pipelines.settings import Drift
from pipelines.storage import write_text

METHOD = "Wasserstein distance / standard deviation of the reference"
NOTE = (
    "Information only; nothing is decided on it. Evidently's rule compares each distance with one fixed limit, "
    "which takes rows for independent. Features of neighbouring trades resemble each other (autocorrelation), so it marks them as "
    "drifted too often, also where nothing has changed."
)


@dataclass(frozen=True)
class FeatureDrift:
    """How far one feature has moved.

    Attributes
    ----------
    name
        The feature.
    distance
        In standard deviations of the reference; 0 is no difference.
    drifted
        Whether the distance reaches the threshold.
    missing_reference, missing_current
        Share of rows without a value, which the distance leaves out.
    """

    name: str
    distance: float
    drifted: bool
    missing_reference: float
    missing_current: float


@dataclass(frozen=True)
class LeftOut:
    """A feature for which no distance exists, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class DriftSummary:
    """What a drift report found.

    Attributes
    ----------
    features
        One entry per compared feature, in the order of the columns.
    left_out
        Features that cannot be compared.
    share_drifted
        Drifted / compared features; None when none could be compared.
    flagged
        Whether the share exceeds `max_share`.
    rows_reference, rows_current
        Rows of the two parts.
    threshold, max_share
        The limits in force.
    method, note
        How the distance is made, and how to read it.
    """

    features: tuple[FeatureDrift, ...]
    left_out: tuple[LeftOut, ...]
    share_drifted: float | None
    flagged: bool
    rows_reference: int
    rows_current: int
    threshold: float
    max_share: float
    method: str = METHOD
    note: str = NOTE

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain JSON-able values."""
        return asdict(self)


def drift_report(reference: pd.DataFrame, current: pd.DataFrame, settings: Drift, page: Path | None = None) -> DriftSummary:
    """Compare two parts feature by feature.

    Parameters
    ----------
    reference, current
        Numeric columns, one row per trade; NaN is missing, infinite values count as missing.
        Both hold the same columns.
    settings
        Section `drift` of `params.yaml`.
    page
        Where to write Evidently's own page (HTML, some 4 MB, works offline). Nothing is written
        when it is None or no feature can be compared.

    Returns
    -------
    DriftSummary
        Features that are empty in one part, or constant in the reference, are named in
        `left_out`; they never stop the report.

    Raises
    ------
    InputError
        The two parts differ in columns, or hold none.
    """
    names = _columns(reference, current)
    before = {name: _values(reference[name]) for name in names}
    after = {name: _values(current[name]) for name in names}
    left_out = tuple(LeftOut(name, reason) for name in names if (reason := _obstacle(before[name], after[name])))
    skipped = {entry.name for entry in left_out}
    compared = [name for name in names if name not in skipped]
    distances = _evidently(pd.DataFrame(before), pd.DataFrame(after), compared, settings, page) if compared else {}
    features = tuple(
        FeatureDrift(
            name,
            distances[name],
            distances[name] >= settings.evidently_threshold,
            float(np.isnan(before[name]).mean()),
            float(np.isnan(after[name]).mean()),
        )
        for name in compared
    )
    share = sum(feature.drifted for feature in features) / len(features) if features else None
    return DriftSummary(
        features=features,
        left_out=left_out,
        share_drifted=share,
        flagged=share is not None and share > settings.max_share,
        rows_reference=len(reference),
        rows_current=len(current),
        threshold=settings.evidently_threshold,
        max_share=settings.max_share,
    )


def _columns(reference: pd.DataFrame, current: pd.DataFrame) -> list[str]:
    names = [str(name) for name in reference.columns]
    if set(names) != {str(name) for name in current.columns} or not names:
        odd = sorted(set(names) ^ {str(name) for name in current.columns})
        raise InputError(
            f"drift report: reference has {reference.shape[1]} columns, current {current.shape[1]}; only in one of them: {odd}",
            limit="the same columns, at least one, in both parts",
            remedy="compute both parts with the same features",
        )
    return names


def _values(series: pd.Series) -> NDArray[np.float64]:
    values = pd.to_numeric(series, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _obstacle(before: NDArray[np.float64], after: NDArray[np.float64]) -> str:
    known_before, known_after = before[~np.isnan(before)], after[~np.isnan(after)]
    if not len(known_before) or not len(known_after):
        empty = [name for name, known in (("reference", known_before), ("current", known_after)) if not len(known)]
        return f"no value in the {' and the '.join(empty)} part"
    if np.ptp(known_before) == 0.0:
        same = np.ptp(known_after) == 0.0 and known_after[0] == known_before[0]
        moved = "and the current part" if same else "but not in the current part, which is a change in itself"
        return f"constant ({known_before[0]:g}) in the reference {moved}; no scale to measure with"
    return ""


def _evidently(
    reference: pd.DataFrame, current: pd.DataFrame, columns: Sequence[str], settings: Drift, page: Path | None
) -> dict[str, float]:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Evidently takes seconds to import, and only this function needs it.
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    names = list(columns)
    # Columns with few values would otherwise be taken for categories and measured in another unit.
    definition = DataDefinition(numerical_columns=names)
    preset = DataDriftPreset(
        columns=names, num_method="wasserstein", num_threshold=settings.evidently_threshold, drift_share=settings.max_share
    )
    snapshot = Report([preset], include_tests=False).run(
        current_data=Dataset.from_pandas(current[names], data_definition=definition),
        reference_data=Dataset.from_pandas(reference[names], data_definition=definition),
    )
    metrics = json.loads(snapshot.json())["metrics"]
    distances = {m["config"]["column"]: float(m["value"]) for m in metrics if m["config"]["type"].endswith(":ValueDrift")}
    if page is not None:
        write_text(page, _with_banner(snapshot.get_html_str(as_iframe=False)))
    return distances


def _with_banner(document: str) -> str:
    banner = (
        f'<p style="font:16px/1.5 sans-serif;max-width:60em;margin:1em auto;padding:0 1em"><b>How to read this.</b> {html.escape(NOTE)}</p>'
    )
    head, body, rest = document.partition("<body>")
    return head + body + banner + rest if body else banner + document
