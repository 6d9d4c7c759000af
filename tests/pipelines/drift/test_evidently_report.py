"""The drift report: right distances, awkward columns left out with a reason, a page that works offline."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.drift.evidently_report import NOTE, DriftSummary, drift_report
from pipelines.errors import InputError
from pipelines.settings import Drift, load_settings

SETTINGS: Drift = load_settings().drift


def parts() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A reference and a current part with every kind of column."""
    rng = np.random.default_rng(7)
    reference = pd.DataFrame(
        {
            "same": rng.normal(size=800),
            "shifted": rng.normal(size=800),
            "two_values": (rng.random(800) < 0.5).astype(float),
            "holes": np.where(rng.random(800) < 0.3, np.nan, rng.normal(size=800)),
            "empty_now": rng.normal(size=800),
            "never_there": np.full(800, np.nan),
            "constant": np.full(800, 0.25),
            "constant_until_now": np.zeros(800),
        }
    )
    current = pd.DataFrame(
        {
            "same": reference["same"].to_numpy()[::2],
            "shifted": reference["shifted"].to_numpy()[::2] + 1.0,
            "two_values": reference["two_values"].to_numpy()[::2],
            "holes": np.where(rng.random(400) < 0.6, np.inf, rng.normal(size=400)),
            "empty_now": np.full(400, np.nan),
            "never_there": np.full(400, np.nan),
            "constant": np.full(400, 0.25),
            "constant_until_now": rng.normal(size=400),
        }
    )
    return reference, current


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[DriftSummary, str]:
    page = tmp_path_factory.mktemp("drift") / "deep" / "drift.html"
    return drift_report(*parts(), SETTINGS, page), page.read_text(encoding="utf-8")


def test_distances_are_wasserstein_in_reference_standard_deviations(made: tuple[DriftSummary, str]) -> None:
    summary, _ = made
    reference, current = parts()
    distances = {feature.name: feature.distance for feature in summary.features}
    assert set(distances) == {"same", "shifted", "two_values", "holes"}
    for name, distance in distances.items():
        before = reference[name].dropna().to_numpy()
        after = current[name].replace(np.inf, np.nan).dropna().to_numpy()
        # Independent reference: area between the two quantile functions, on a fine grid.
        levels = (np.arange(200_000) + 0.5) / 200_000
        gap = np.abs(np.quantile(before, levels, method="inverted_cdf") - np.quantile(after, levels, method="inverted_cdf"))
        assert distance == pytest.approx(gap.mean() / before.std(), abs=2e-4)
    assert {feature.name: feature.drifted for feature in summary.features}["shifted"]
    assert not {feature.name: feature.drifted for feature in summary.features}["same"]


def test_share_counts_compared_features_only(made: tuple[DriftSummary, str]) -> None:
    summary, _ = made
    assert summary.share_drifted == sum(feature.drifted for feature in summary.features) / 4
    assert summary.flagged == (summary.share_drifted > SETTINGS.max_share)
    assert (summary.rows_reference, summary.rows_current) == (800, 400)


def test_missing_share_counts_infinite_values(made: tuple[DriftSummary, str]) -> None:
    holes = next(feature for feature in made[0].features if feature.name == "holes")
    reference, current = parts()
    assert holes.missing_reference == pytest.approx(reference["holes"].isna().mean())
    assert holes.missing_current == pytest.approx(np.isinf(current["holes"]).mean())


def test_awkward_columns_are_left_out_with_a_reason(made: tuple[DriftSummary, str]) -> None:
    reasons = {entry.name: entry.reason for entry in made[0].left_out}
    assert set(reasons) == {"empty_now", "never_there", "constant", "constant_until_now"}
    assert reasons["empty_now"] == "no value in the current part"
    assert reasons["never_there"] == "no value in the reference and the current part"
    assert "constant (0.25) in the reference and the current part" in reasons["constant"]
    assert "not in the current part, which is a change" in reasons["constant_until_now"]


def test_page_says_that_it_is_information_only_and_loads_nothing(made: tuple[DriftSummary, str]) -> None:
    _, page = made
    assert "autocorrelation" in NOTE
    assert "Information only" in page.replace("&#x27;", "'")
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)


def test_summary_is_json(made: tuple[DriftSummary, str]) -> None:
    text = json.dumps(made[0].as_dict(), allow_nan=False)
    assert json.loads(text)["method"].startswith("Wasserstein")


def test_nothing_to_compare_gives_a_summary_and_no_page(tmp_path: Path) -> None:
    page = tmp_path / "drift.html"
    frame = pd.DataFrame({"a": [1.0, 1.0], "b": [np.nan, np.nan]})
    summary = drift_report(frame, frame, SETTINGS, page)
    assert (summary.features, summary.share_drifted, summary.flagged) == ((), None, False)
    assert [entry.name for entry in summary.left_out] == ["a", "b"]
    assert not page.exists()


def test_empty_part_is_no_crash() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0]})
    summary = drift_report(frame, frame.iloc[:0], SETTINGS)
    assert summary.left_out[0].reason == "no value in the current part"


def test_parts_with_other_columns_are_refused() -> None:
    with pytest.raises(InputError, match=r"only in one of them: \['a', 'b'\].*the same columns"):
        drift_report(pd.DataFrame({"a": [1.0]}), pd.DataFrame({"b": [1.0]}), SETTINGS)
