"""Where everything lies under the data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataLayout:
    """The data folder; every path that a stage reads or writes is named here."""

    root: Path

    @property
    def raw(self) -> Path:
        """What the bot or a person puts in: snapshots (*.jsonl, *.parquet) or bars (es_5m.parquet ...)."""
        return self.root / "raw"

    @property
    def snapshots(self) -> Path:
        """The store of signals and outcomes that came from the bot."""
        return self.root / "snapshots"

    @property
    def trades(self) -> Path:
        """The closed trades of the present run, from the store or from a replay; what the later stages read."""
        return self.root / "trades"

    @property
    def quarantine(self) -> Path:
        """Lines and rows that were refused, with the reason."""
        return self.root / "quarantine"

    @property
    def ingest(self) -> Path:
        """What the ingest stage found: source, notes, counts."""
        return self.root / "ingest.json"

    @property
    def quality(self) -> Path:
        """The data-quality report."""
        return self.root / "quality.json"

    @property
    def dataset(self) -> Path:
        """The dataset and its card."""
        return self.root / "dataset"

    @property
    def features(self) -> Path:
        """The features and windows of the present run's trades."""
        return self.root / "features"

    def training(self, family: str) -> Path:
        """Scores of a family's models in the present run, or why there are none."""
        return self.root / "training" / family / "metrics.json"

    def models(self, family: str) -> Path:
        """One folder per model of a family in the present run: evaluation, ONNX file, card and importance."""
        return self.root / "training" / family / "models"

    def plots(self, family: str) -> Path:
        """Tables that DVC draws."""
        return self.root / "training" / family / "plots"

    def tuning(self, family: str) -> Path:
        """One folder per tuned model of a family: every trial and the best parameters."""
        return self.root / "tuning" / family

    @property
    def gates(self) -> Path:
        """The verdict on every model."""
        return self.root / "gates.json"

    @property
    def registered(self) -> Path:
        """What the registry took or refused."""
        return self.root / "registered.json"

    @property
    def drift(self) -> Path:
        """The drift summary and Evidently's page."""
        return self.root / "drift"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artifacts."""
        return self.root / "mlflow"

    @property
    def prefect(self) -> Path:
        """Prefect's database and logs."""
        return self.root / "prefect"

    @property
    def reports(self) -> Path:
        """One folder per run, with index.html."""
        return self.root / "reports"

    @property
    def lock(self) -> Path:
        """Held while a run writes."""
        return self.root / ".lock"
