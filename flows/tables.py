"""Tables of a training that `dvc plots` draws: scores by fold, and reliability."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from models.results import Evaluation
from pipelines.dataset import Dataset
from pipelines.storage import write_text

FOLDS_FILE, RELIABILITY_FILE = "folds.csv", "reliability.csv"


def write_tables(folder: Path, evaluations: Sequence[Evaluation], dataset: Dataset, bins: int) -> None:
    """Write `folds.csv` (fold, model, score) and `reliability.csv` (predicted, observed, model) of one family."""
    folds = [
        {"fold": str(number + 1), "model": evaluation.target, "score": score}
        for evaluation in evaluations
        for number, score in enumerate(evaluation.fold_scores)
    ]
    folds += [{"fold": "test", "model": evaluation.target, "score": evaluation.test_score} for evaluation in evaluations]
    write_text(folder / FOLDS_FILE, pd.DataFrame(folds, columns=["fold", "model", "score"]).to_csv(index=False))
    parts = [_reliability(evaluation, dataset, bins) for evaluation in evaluations if evaluation.calibration]
    frame = pd.concat(parts) if parts else pd.DataFrame(columns=["predicted", "observed", "model"])
    write_text(folder / RELIABILITY_FILE, frame.to_csv(index=False))


def _reliability(evaluation: Evaluation, dataset: Dataset, bins: int) -> pd.DataFrame:
    label = dataset.target(evaluation.label)[evaluation.test_rows]
    order = np.argsort(evaluation.test_predictions, kind="stable")
    groups = [part for part in np.array_split(order, bins) if len(part)]
    return pd.DataFrame(
        {
            "predicted": [evaluation.test_predictions[part].mean() for part in groups],
            "observed": [label[part].mean() for part in groups],
            "model": evaluation.target,
        }
    )
