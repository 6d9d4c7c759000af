"""MLflow as Amiral's memory of models: every training a run, every survivor a model version.

Everything lies in one folder: `mlflow.db` (SQLite) and `artifacts/`. Model files are plain run
artifacts (`model.onnx`, `card.json`, `gates.json`), so reading one needs no unpickling.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from models.artifact import Card, Package
from models.results import Evaluation, Verdict
from pipelines.errors import InputError, StorageError
from pipelines.settings import Registry as RegistrySettings
from pipelines.settings import Settings
from pipelines.storage import storage_errors, write_atomically

CANDIDATE = "candidate"
REJECTED = "rejected"
SIMULATED = "simulated"

DATABASE = "mlflow.db"
MODEL_FILE, CARD_FILE, GATES_FILE, EVALUATION_FILE = "model.onnx", "card.json", "gates.json", "evaluation.json"

_FINGERPRINT, _TRAINING, _VERSION = "amiral.fingerprint", "amiral.training", "amiral.version"


@dataclass(frozen=True)
class Submission:
    """One judged model on its way into the registry."""

    evaluation: Evaluation
    verdict: Verdict
    package: Package


@dataclass(frozen=True)
class RegistryEntry:
    """What the registry did with one model.

    Attributes
    ----------
    target, model_name
        The model.
    run_id
        Its MLflow run.
    version
        Its model version; None when it was rejected.
    reasons
        Of the gates that refused it.
    existing
        The very same training had been recorded before; nothing was written.
    """

    target: str
    model_name: str
    run_id: str
    version: int | None
    reasons: tuple[str, ...]
    existing: bool


class Candidate(NamedTuple):
    """A model to score with."""

    onnx: bytes
    card: Card
    version: int


class Registry:
    """The registry in one folder.

    Parameters
    ----------
    folder
        For the database and the artifacts; made on first writing.
    settings
        Section `registry` of the settings.
    """

    def __init__(self, folder: Path, settings: RegistrySettings) -> None:
        self.folder = folder.absolute()
        self.settings = settings

    def model_name(self, target: str) -> str:
        """Name of the registered model."""
        return f"{self.settings.model_prefix}-{target.replace('_', '-')}"

    def record(
        self,
        submissions: Sequence[Submission],
        *,
        dataset_card: Mapping[str, Any],
        settings: Settings,
        run_name: str,
        extra_artifacts: Mapping[str, str] | None = None,
    ) -> tuple[RegistryEntry, ...]:
        """Record one training: a parent run with one child run per model, a version per candidate.

        A model becomes a version with the alias "candidate" only when every gate passed. The others
        stay as runs with their reasons. Dataset hash, parameters hash, git commit and target
        name a training: recording the same one again writes nothing and leaves the aliases alone.

        Parameters
        ----------
        submissions
            The models of one training.
        dataset_card
            Card of their dataset.
        settings
            All settings; some are logged as parameters.
        run_name
            Name of the parent run.
        extra_artifacts
            File name to text, kept with the parent run.

        Raises
        ------
        StorageError
            The folder cannot be written, or MLflow's store refuses.
        ValueError
            A verdict says candidate without a gate on ONNX parity.
        """
        for submission in submissions:
            _check_parity_was_judged(submission)
        with self._store():
            known = {id(item): self._recorded(item) for item in submissions}
            if all(entry is not None for entry in known.values()):
                return tuple(entry for entry in known.values() if entry is not None)
            self._close_interrupted(submissions)
            parent = self._parent(submissions[0], dataset_card, run_name, extra_artifacts or {})
            entries = tuple(known[id(item)] or self._record_one(item, parent, dataset_card, settings) for item in submissions)
            self._client.set_terminated(parent)
            return entries

    def newest_candidate(self, target: str) -> Candidate | None:
        """Read the model that carries the alias "candidate"; None when there is none.

        Raises
        ------
        InputError
            The version's files are missing or damaged.
        """
        if not (self.folder / DATABASE).exists():
            return None
        version = self._aliased(self.model_name(target), CANDIDATE)
        if version is None:
            return None
        folder = self._artifacts(str(version.run_id))
        try:
            onnx, card = (folder / MODEL_FILE).read_bytes(), (folder / CARD_FILE).read_bytes()
        except FileNotFoundError as error:
            raise InputError(f"version {version.version} of {version.name} lacks {error.filename}", remedy="train again") from None
        return Candidate(onnx, Card.from_json(card), int(version.version))

    def _artifacts(self, run_id: str) -> Path:
        # By convention and not by the stored URI, so that reading survives a moved data folder.
        return self.folder / "artifacts" / run_id / "artifacts"

    @cached_property
    def _client(self) -> Any:
        return _client(self.folder / DATABASE)

    @cached_property
    def _experiment(self) -> str:
        location = (self.folder / "artifacts").as_uri()
        experiment = self._client.get_experiment_by_name(self.settings.experiment)
        if experiment is None:
            return str(self._client.create_experiment(self.settings.experiment, artifact_location=location))
        if experiment.artifact_location != location:
            raise StorageError(
                f"the experiment {self.settings.experiment!r} keeps its files in {experiment.artifact_location}",
                limit=location,
                remedy="move the data folder back, or name another registry.experiment",
            )
        return str(experiment.experiment_id)

    @contextmanager
    def _store(self) -> Iterator[None]:
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder):
                pass
        from mlflow.exceptions import MlflowException  # slow to import

        try:
            yield
        except MlflowException as error:
            raise StorageError(
                f"MLflow's store in {self.folder} refuses: {error}", remedy="see that no other process holds it, then run again"
            ) from error

    def _recorded(self, submission: Submission) -> RegistryEntry | None:
        query = f"tags.`{_FINGERPRINT}` = '{_fingerprint(submission)}' and attributes.status = 'FINISHED'"
        runs = self._client.search_runs([self._experiment], query, max_results=1)
        if not runs:
            return None
        run = runs[0]
        version = run.data.tags.get(_VERSION)
        return self._entry(submission, run.info.run_id, int(version) if version else None, existing=True)

    def _close_interrupted(self, submissions: Sequence[Submission]) -> None:
        """Mark the runs that an earlier, interrupted record of this training has left open."""
        training = _fingerprint(submissions[0], with_target=False)
        query = f"tags.`{_TRAINING}` = '{training}' and attributes.status = 'RUNNING'"
        for run in self._client.search_runs([self._experiment], query):
            self._client.set_terminated(run.info.run_id, "KILLED")

    def _entry(self, submission: Submission, run_id: str, version: int | None, *, existing: bool) -> RegistryEntry:
        target = submission.evaluation.target
        return RegistryEntry(target, self.model_name(target), run_id, version, submission.verdict.reasons, existing)

    def _parent(self, first: Submission, dataset_card: Mapping[str, Any], run_name: str, extra: Mapping[str, str]) -> str:
        tags = {**_origin(first.package.card), _TRAINING: _fingerprint(first, with_target=False), "amiral.kind": "training"}
        run = self._client.create_run(self._experiment, tags=tags, run_name=run_name)
        run_id = str(run.info.run_id)
        self._client.log_dict(run_id, dict(dataset_card), "dataset_card.json")
        for name, text in extra.items():
            self._client.log_text(run_id, text, name)
        return run_id

    def _record_one(self, submission: Submission, parent: str, dataset_card: Mapping[str, Any], settings: Settings) -> RegistryEntry:
        evaluation, verdict, package = submission.evaluation, submission.verdict, submission.package
        tags = {
            **_origin(package.card),
            _FINGERPRINT: _fingerprint(submission),
            _TRAINING: _fingerprint(submission, with_target=False),
            "mlflow.parentRunId": parent,
            "amiral.kind": "model",
            "target": evaluation.target,
            "family": evaluation.family,
            "verdict": CANDIDATE if verdict.candidate else REJECTED,
            "reasons": " | ".join(verdict.reasons),
        }
        run = self._client.create_run(self._experiment, tags=tags, run_name=evaluation.target)
        run_id = str(run.info.run_id)
        self._log_values(run, evaluation, dataset_card, settings)
        self._log_files(run_id, submission)
        version = self._register(submission, run, tags) if verdict.candidate else None
        # Finished is written last: a run that was interrupted is recorded again.
        self._client.set_terminated(run_id)
        return self._entry(submission, run_id, version, existing=False)

    def _log_values(self, run: Any, evaluation: Evaluation, dataset_card: Mapping[str, Any], settings: Settings) -> None:
        from mlflow.entities import Metric, Param

        now = run.info.start_time
        values = _metrics(evaluation)
        metrics = [Metric(name, value, now, 0) for name, value in values.items() if math.isfinite(value)]
        metrics += [Metric("fold_score", value, now, fold) for fold, value in enumerate(evaluation.fold_scores) if math.isfinite(value)]
        params = [Param(name, str(value)) for name, value in _params(settings).items()]
        params.append(Param("dataset_rows", str(dataset_card["rows"])))
        self._client.log_batch(run.info.run_id, metrics=metrics, params=params)

    def _log_files(self, run_id: str, submission: Submission) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / MODEL_FILE).write_bytes(submission.package.onnx)
            (folder / CARD_FILE).write_text(submission.package.card.to_json(), encoding="utf-8")
            (folder / GATES_FILE).write_text(submission.verdict.to_json(), encoding="utf-8")
            (folder / EVALUATION_FILE).write_text(submission.evaluation.to_json(), encoding="utf-8")
            self._client.log_artifacts(run_id, name)

    def _register(self, submission: Submission, run: Any, tags: Mapping[str, str]) -> int:
        name = self.model_name(submission.evaluation.target)
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name)
        kept = {key: value for key, value in tags.items() if not key.startswith("mlflow.") and value}
        # A run that was interrupted right after this point has left its version: take that one.
        left = self._client.search_model_versions(f"name = '{name}' and tags.`{_FINGERPRINT}` = '{tags[_FINGERPRINT]}'")
        created = (
            left[0] if left else self._client.create_model_version(name, source=run.info.artifact_uri, run_id=run.info.run_id, tags=kept)
        )
        if self._may_take_the_alias(name, submission.package.card):
            self._client.set_registered_model_alias(name, CANDIDATE, created.version)
        self._client.set_tag(run.info.run_id, _VERSION, str(created.version))
        return int(created.version)

    def _may_take_the_alias(self, name: str, card: Card) -> bool:
        """A model of simulated trades never takes the alias from one of real trades: a demo must not end the scoring."""
        current = self._aliased(name, CANDIDATE)
        return current is None or SIMULATED not in card.data_sources or SIMULATED in current.tags.get("data_source", "").split(",")

    def _aliased(self, name: str, alias: str) -> Any | None:
        models = self._client.search_registered_models(f"name = '{name}'")
        if not models or alias not in models[0].aliases:
            return None
        return self._client.get_model_version(name, models[0].aliases[alias])


def _client(database: Path) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    from mlflow import MlflowClient  # takes seconds, so only where it is used

    # MLflow sets its own level while it is imported.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    if not database.exists():
        _create(database)
    address = f"sqlite:///{database}"
    return MlflowClient(tracking_uri=address, registry_uri=address)


def _create(database: Path) -> None:
    """Make MLflow's tables beside the database and put them in place in one step.

    An interruption in the middle of MLflow's first migration would leave tables that its next
    start takes for none.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    def migrate(temporary: Path) -> None:
        temporary.unlink()
        SqlAlchemyStore(f"sqlite:///{temporary}", (database.parent / "artifacts").as_uri()).engine.dispose()

    write_atomically(database, migrate)


def _check_parity_was_judged(submission: Submission) -> None:
    if submission.verdict.candidate and not any(gate.name == "onnx_parity" for gate in submission.verdict.gates):
        raise ValueError(
            f"the verdict on {submission.evaluation.target} says nothing about ONNX parity; judge it with the package's parity"
        )


def _origin(card: Card) -> dict[str, str]:
    return {
        "dataset_hash": card.dataset_hash,
        "parameters_hash": card.parameters_hash,
        "git_commit": card.git_commit,
        "data_source": ",".join(sorted(card.data_sources)),
    }


def _fingerprint(submission: Submission, *, with_target: bool = True) -> str:
    card = submission.package.card
    parts = [card.dataset_hash, card.parameters_hash, card.git_commit]
    if with_target:
        parts += [card.target, card.family]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _params(settings: Settings) -> dict[str, Any]:
    logged = settings.model_dump(mode="json", include={"seed", "splits", "linear", "policy", "gates"})
    flat: dict[str, Any] = {"seed": logged.pop("seed")}
    for section, values in logged.items():
        flat.update({f"{section}.{key}": value for key, value in values.items()})
    return flat


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    policy, baseline = evaluation.policy_performance, evaluation.baseline_performance
    return {
        "train_score": evaluation.train_score,
        "validation_score": evaluation.validation_score,
        "test_score": evaluation.test_score,
        **{f"test_{name}": value for name, value in evaluation.metrics.items()},
        **{f"baseline_{name}": value for name, value in evaluation.baselines.items()},
        **{f"rows_{name}": float(value) for name, value in evaluation.rows.items()},
        "policy_expectancy": policy.expectancy,
        "policy_total": policy.total,
        "policy_max_drawdown": policy.max_drawdown,
        "take_all_expectancy": baseline.expectancy,
        "take_all_total": baseline.total,
        "take_all_max_drawdown": baseline.max_drawdown,
    }
