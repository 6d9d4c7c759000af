"""MLflow as Amiral's memory of models: every training a tree of runs, every survivor a model version.

A training is one run; below it lies one run per family, and below that one run per model and one per
fold. Everything is in one folder: `mlflow.db` (SQLite) and `artifacts/`. The artifacts of a model's run
are an MLflow model of the flavour `onnx` with our files beside it (`card.json`, `gates.json`), so MLflow
loads it, and so does whoever knows ONNX; nothing is pickled.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from models.artifact import FEATURES_INPUT, WINDOW_INPUT, Card, Package
from models.results import Evaluation, Verdict
from pipelines.errors import InputError, StorageError
from pipelines.settings import Registry as RegistrySettings
from pipelines.settings import Settings
from pipelines.storage import json_text, storage_errors, write_atomically

CANDIDATE = "candidate"
REJECTED = "rejected"
SIMULATED = "simulated"

DATABASE = "mlflow.db"
MODEL_FILE, CARD_FILE, GATES_FILE, EVALUATION_FILE = "model.onnx", "card.json", "gates.json", "evaluation.json"
IMPORTANCE_FILE = "importance.json"
DATASET_CARD_FILE, ENVIRONMENT_FILE = "dataset_card.json", "environment.json"

SECTIONS = ("seed", "splits", "weights", "calibration", "policy", "gates", "ladder")
"""Of the settings: what every training logs as parameters."""

_OURS = (MODEL_FILE, CARD_FILE, GATES_FILE, EVALUATION_FILE)
RESERVED = frozenset({*_OURS, "MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "registered_model_meta"})
"""Names in a model's folder that are ours or MLflow's."""

_FINGERPRINT, _TRAINING, _VERSION, _KIND = "amiral.fingerprint", "amiral.training", "amiral.version", "amiral.kind"
_PARENT = "mlflow.parentRunId"
_REQUIRED = ("onnx", "onnxruntime", "numpy")
_PLAIN_NAME = re.compile(r"[\w.-]+(?: [\w.-]+)*")


@dataclass(frozen=True)
class Submission:
    """One judged model on its way into the registry.

    Attributes
    ----------
    evaluation, verdict, package
        The model.
    files
        Further files of the model by relative name: "importance.json", "plots/importance.svg".

    Raises
    ------
    InputError
        The name of a file is no plain relative path, or it is the name of another file.
    """

    evaluation: Evaluation
    verdict: Verdict
    package: Package
    files: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_names(self.files, RESERVED)


@dataclass(frozen=True)
class RegistryEntry:
    """What the registry did with one model.

    Attributes
    ----------
    family, target, model_name
        The model.
    run_id
        Its MLflow run.
    version
        Its model version; None when it was rejected.
    reasons
        Of the gates that refused it.
    existing
        The very same model with the very same verdict had been recorded before; nothing was written.
    """

    family: str
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


class _Value(NamedTuple):
    """A metric on its way into a run; what is not finite is left out."""

    name: str
    value: float
    step: int = 0


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
        """Record one training: a tree of runs, and a version per candidate.

        A model becomes a version only when every gate passed; the others stay as runs with their
        reasons. The last candidate of a target takes the alias "candidate" once all runs are
        written. Dataset hash, parameters hash, git commit, family, target, ONNX file and verdict name
        a record: what was recorded before is not recorded again, and when that is everything, nothing
        is written and the aliases stay where they are. A record that was interrupted is continued by
        the next one, in the same runs.

        Parameters
        ----------
        submissions
            The models of one training, simplest family first.
        dataset_card
            Card of their dataset.
        settings
            All settings; some are logged as parameters.
        run_name
            Name of the parent run.
        extra_artifacts
            File name to text, kept with the parent run.

        Returns
        -------
        tuple of RegistryEntry
            In the order of the submissions.

        Raises
        ------
        StorageError
            The folder cannot be written, or MLflow's store refuses.
        InputError
            A parameter is longer than MLflow keeps, or a file name is no plain relative path.
        ValueError
            A verdict says candidate without a gate on ONNX parity.
        """
        extra = extra_artifacts or {}
        _check_names(extra, frozenset({DATASET_CARD_FILE, ENVIRONMENT_FILE}))
        for submission in submissions:
            _check_parity_was_judged(submission)
        if not submissions:
            return ()
        with self._store():
            recording = _Recording(self._client, self._experiment, self.model_name, submissions, dataset_card, settings)
            return recording.write(run_name, extra)

    def newest_candidate(self, target: str) -> Candidate | None:
        """Read the model that carries the alias "candidate"; None when there is none.

        Raises
        ------
        InputError
            The version's files are missing or damaged.
        """
        if not (self.folder / DATABASE).exists():
            return None
        version = _aliased(self._client, self.model_name(target), CANDIDATE)
        if version is None:
            return None
        folder = self._artifacts(str(version.run_id))
        try:
            onnx, card = (folder / MODEL_FILE).read_bytes(), (folder / CARD_FILE).read_bytes()
        except FileNotFoundError as error:
            raise InputError(f"version {version.version} of {version.name} lacks {error.filename}", remedy="train again") from None
        return Candidate(onnx, Card.from_json(card), int(version.version))

    def newest_importance(self, target: str, *, below: int | None = None) -> tuple[int, str] | None:
        """Read number and importances of a target's newest version, of whatever family.

        Parameters
        ----------
        target
            Name of the model.
        below
            Only versions with a smaller number count; None takes all.

        Returns
        -------
        tuple of int and str, or None
            Highest version number and the text of its `importance.json`; None when there is no version
            or it has no such file.
        """
        if not (self.folder / DATABASE).exists():
            return None
        versions = self._client.search_model_versions(f"name = '{self.model_name(target)}'")
        newest = sorted((item for item in versions if below is None or int(item.version) < below), key=lambda item: -int(item.version))
        if not newest:
            return None
        try:
            text = (self._artifacts(str(newest[0].run_id)) / IMPORTANCE_FILE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        return int(newest[0].version), text

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


class _Recording:
    """One training on its way into MLflow.

    Every run has a fingerprint of what it stands for and is finished last, so what is there and finished
    stays, and what an interruption has left is written again in its place.
    """

    def __init__(
        self,
        client: Any,
        experiment: str,
        model_name: Callable[[str], str],
        submissions: Sequence[Submission],
        dataset_card: Mapping[str, Any],
        settings: Settings,
    ) -> None:
        self._client, self._experiment, self._model_name = client, experiment, model_name
        self._submissions, self._dataset_card = submissions, dataset_card
        self._keys = [_fingerprint(item) for item in submissions]
        self._tree = _digest(self._keys)
        self._params = _flat(settings.model_dump(mode="json", include=set(SECTIONS))) | {"dataset_rows": str(dataset_card["rows"])}
        # The families of one dataset may have been trained by different versions of code and settings.
        runs = [run for training in dict.fromkeys(map(_training, submissions)) for run in self._runs(training)]
        self._finished = {run.data.tags.get(_FINGERPRINT): run for run in runs if run.info.status == "FINISHED"}
        # Oldest first, so that of two the newer one is continued.
        left = {run.data.tags.get(_FINGERPRINT): run for run in reversed(runs)}
        self._left = {key: run for key, run in left.items() if key not in self._finished}
        self._abandoned = {run.info.run_id for run in runs if run.info.status == "RUNNING"}

    def write(self, run_name: str, extra: Mapping[str, str]) -> tuple[RegistryEntry, ...]:
        entries = {
            key: self._entry(item, self._finished[key].info.run_id, self._finished[key].data.tags.get(_VERSION), existing=True)
            for key, item in zip(self._keys, self._submissions, strict=True)
            if key in self._finished
        }
        if len(entries) < len(set(self._keys)) or self._tree in self._left:
            self._check_lengths()
            candidates = sum(item.verdict.candidate for item in self._submissions)
            values = [_Value("models", len(self._submissions)), _Value("candidates", candidates)]
            parent = self._open(_tags(self._tree, "training", self._submissions), run_name, self._params, values).run_id
            files = {DATASET_CARD_FILE: json_text(self._dataset_card), ENVIRONMENT_FILE: self._environment()}
            self._keep(parent, {**extra, **files})
            for family in dict.fromkeys(item.evaluation.family for item in self._submissions):
                entries |= self._family(family, parent)
            self._move_aliases([(item, entries[key]) for key, item in zip(self._keys, self._submissions, strict=True)])
            for run_id in self._abandoned:
                self._client.set_terminated(run_id, "KILLED")
            self._client.set_terminated(parent)
        return tuple(entries[key] for key in self._keys)

    def _runs(self, training: str) -> list[Any]:
        """All runs of a training that MLflow knows, newest first."""
        query, found, token = f"tags.`{_TRAINING}` = '{training}'", [], None
        while True:
            page = self._client.search_runs([self._experiment], query, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _family(self, family: str, parent: str) -> dict[str, RegistryEntry]:
        """Write the runs of a family that are missing; returns the entries of its new models."""
        pairs = [pair for pair in zip(self._keys, self._submissions, strict=True) if pair[1].evaluation.family == family]
        fresh = {key: item for key, item in pairs if key not in self._finished}
        key = _digest([self._tree, family])
        if not fresh and key not in self._left:
            return {}
        items = [item for _, item in pairs]
        scores = [_Value(f"{item.evaluation.target}.test_score", item.evaluation.test_score) for item in items]
        tags = {**_tags(key, "family", items), "family": family, _PARENT: parent}
        run = self._open(tags, family, _family_params(items), scores).run_id
        for number in range(max(len(item.evaluation.fold_scores) for item in items)):
            self._fold(number, items, run)
        entries = {key: self._model(key, item, run) for key, item in fresh.items()}
        self._client.set_terminated(run)
        return entries

    def _fold(self, number: int, items: Sequence[Submission], parent: str) -> None:
        family = items[0].evaluation.family
        key = _digest([self._tree, family, number])
        if key in self._finished:
            return
        scores = []
        for evaluation in (item.evaluation for item in items):
            scores += [_Value(f"{evaluation.target}.score", value) for value in evaluation.fold_scores[number : number + 1]]
            scores += [_Value(f"{evaluation.target}.train_score", value) for value in evaluation.fold_train_scores[number : number + 1]]
        tags = {**_tags(key, "fold", items), "family": family, "fold": str(number + 1), _PARENT: parent}
        run = self._open(tags, f"{family}/fold {number + 1}", _family_params(items), scores)
        self._client.set_terminated(run.run_id)

    def _model(self, key: str, item: Submission, parent: str) -> RegistryEntry:
        evaluation, verdict = item.evaluation, item.verdict
        tags = {
            **_tags(key, "model", [item]),
            _PARENT: parent,
            "target": evaluation.target,
            "family": evaluation.family,
            "verdict": CANDIDATE if verdict.candidate else REJECTED,
            "reasons": _shown(verdict.reasons),
        }
        params = self._params | _flat({evaluation.family: evaluation.parameters})
        run = self._open(tags, evaluation.name, params, _values(evaluation))
        ours = {CARD_FILE: item.package.card.to_json(), GATES_FILE: verdict.to_json(), EVALUATION_FILE: evaluation.to_json()}
        self._keep(run.run_id, {**item.files, **ours}, item.package)
        version = self._version(item, run, tags) if verdict.candidate else None
        # Finished is written last: a run that was interrupted is written again.
        self._client.set_terminated(run.run_id)
        return self._entry(item, run.run_id, version, existing=False)

    def _open(self, tags: Mapping[str, str], name: str, params: Mapping[str, str], values: Sequence[_Value]) -> Any:
        """Start a run, or continue the one that an interruption has left, and write its values; returns its info."""
        from mlflow.entities import Metric, Param, RunTag

        run = self._left.get(tags[_FINGERPRINT])
        changed = []
        # MLflow never changes a parameter: a run that was begun under other settings is left behind.
        if run is not None and run.data.params.items() <= params.items():
            self._abandoned.discard(run.info.run_id)
            changed = [RunTag(tag, value) for tag, value in tags.items()]
        else:
            run = self._client.create_run(self._experiment, tags=tags, run_name=name)
        # The time of a value belongs to what makes it the same value when it is written again.
        metrics = [Metric(item.name, item.value, run.info.start_time, item.step) for item in values if math.isfinite(item.value)]
        self._client.log_batch(run.info.run_id, metrics=metrics, params=[Param(*pair) for pair in params.items()], tags=changed)
        return run.info

    def _keep(self, run_id: str, files: Mapping[str, str | bytes], package: Package | None = None) -> None:
        """Lay files into a run's artifacts, for a model beside its MLflow folder."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "artifacts"
            with storage_errors(folder):
                if package is not None:
                    _write_model(folder, package)
                for name, content in files.items():
                    path = folder / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content if isinstance(content, bytes) else content.encode())
            self._client.log_artifacts(run_id, str(folder))

    def _version(self, item: Submission, run: Any, tags: Mapping[str, str]) -> str:
        name = self._model_name(item.evaluation.target)
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name)
        # A run that was interrupted right after this point has left its version: take that one.
        left = self._client.search_model_versions(f"name = '{name}' and tags.`{_FINGERPRINT}` = '{tags[_FINGERPRINT]}'")
        if left:
            version = str(left[0].version)
        else:
            kept = {key: value for key, value in tags.items() if not key.startswith("mlflow.") and value}
            version = str(self._client.create_model_version(name, source=run.artifact_uri, run_id=run.run_id, tags=kept).version)
        self._client.set_tag(run.run_id, _VERSION, version)
        return version

    def _move_aliases(self, recorded: Sequence[tuple[Submission, RegistryEntry]]) -> None:
        """Give every target's alias to its last candidate, now that all runs are written."""
        candidates = [(item, entry, entry.version) for item, entry in recorded if entry.version is not None]
        new = {entry.target for _, entry, _ in candidates if not entry.existing}
        for item, entry, version in {entry.target: (item, entry, version) for item, entry, version in candidates}.values():
            current = _aliased(self._client, entry.model_name, CANDIDATE)
            # An interrupted record that only has to be finished must not take the alias back from a later training.
            later = entry.target in new or current is None or version > int(current.version)
            if later and _may_replace(current, item.package.card):
                self._client.set_registered_model_alias(entry.model_name, CANDIDATE, str(version))

    def _entry(self, item: Submission, run_id: str, version: str | None, *, existing: bool) -> RegistryEntry:
        evaluation = item.evaluation
        name, number = self._model_name(evaluation.target), None if version is None else int(version)
        return RegistryEntry(evaluation.family, evaluation.target, name, run_id, number, item.verdict.reasons, existing)

    def _environment(self) -> str:
        """What the models were made with."""
        versions: dict[str, str] = {}
        for item in self._submissions:
            versions |= item.package.card.versions
        return json_text({"python": platform.python_version(), "platform": platform.platform(), "versions": dict(sorted(versions.items()))})

    def _check_lengths(self) -> None:
        """MLflow cuts longer values without a word."""
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

        params = dict(self._params)
        for item in self._submissions:
            params |= _flat({item.evaluation.family: item.evaluation.parameters})
            for name, value in params.items():
                if len(value) > MAX_PARAM_VAL_LENGTH:
                    raise InputError(
                        f"the parameter {name} of {item.evaluation.name} has {len(value)} characters",
                        limit=f"at most {MAX_PARAM_VAL_LENGTH}, which MLflow keeps",
                        remedy="shorten it in params.yaml",
                    )


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


def _aliased(client: Any, name: str, alias: str) -> Any | None:
    models = client.search_registered_models(f"name = '{name}'")
    if not models or alias not in models[0].aliases:
        return None
    return client.get_model_version(name, models[0].aliases[alias])


def _may_replace(current: Any | None, card: Card) -> bool:
    """A model of simulated trades never takes the alias from one of real trades: a demo must not end the scoring."""
    return current is None or SIMULATED not in card.data_sources or SIMULATED in current.tags.get("data_source", "").split(",")


def _write_model(folder: Path, package: Package) -> None:
    """Write an MLflow model around the very bytes of a package."""
    import mlflow.onnx
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def spec(name: str, *shape: int) -> Any:
        return TensorSpec(np.dtype(np.float32), (-1, *shape), name)

    card = package.card
    model = onnx.load_from_string(package.onnx)
    inputs = [spec(FEATURES_INPUT, len(card.features))]
    if card.window_bars > 0:
        inputs.append(spec(WINDOW_INPUT, card.window_bars, len(card.window_channels)))
    mlflow.onnx.save_model(
        model,
        str(folder),
        signature=ModelSignature(Schema(inputs), Schema([spec(output.name, 1) for output in model.graph.output])),
        # Left to itself, MLflow would run the model to find out what it imports.
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in _REQUIRED],
        onnx_execution_providers=["CPUExecutionProvider"],
        onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
        save_as_external_data=False,
    )
    # What is kept must be what was judged, to the byte, whatever the writer of MLflow's folder makes of it.
    (folder / MODEL_FILE).write_bytes(package.onnx)


def _check_names(names: Collection[str], reserved: frozenset[str]) -> None:
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    for name in names:
        parts = name.split("/")
        if any(part in (".", "..") or not _PLAIN_NAME.fullmatch(part) for part in parts):
            raise InputError(
                f"an artifact is named {name!r}", limit="a plain relative path such as plots/importance.svg", remedy="rename it"
            )
        if name in folders or parts[0] in reserved:
            raise InputError(
                f"an artifact is named {name!r}",
                limit=f"a name of its own, not {', '.join(sorted(reserved))} or a folder of another file",
                remedy="rename it",
            )


def _check_parity_was_judged(submission: Submission) -> None:
    if submission.verdict.candidate and not any(gate.name == "onnx_parity" for gate in submission.verdict.gates):
        raise ValueError(f"the verdict on {submission.evaluation.name} says nothing about ONNX parity; judge it with the package's parity")


def _tags(key: str, kind: str, items: Sequence[Submission]) -> dict[str, str]:
    """What every run says of the models below it; where they differ, all values are named."""
    cards = [item.package.card for item in items]
    origin = {
        "dataset_hash": {card.dataset_hash for card in cards},
        "parameters_hash": {card.parameters_hash for card in cards},
        "git_commit": {card.git_commit for card in cards},
        "data_source": {source for card in cards for source in card.data_sources},
    }
    joined = {name: ",".join(sorted(values)) for name, values in origin.items()}
    return {**joined, _TRAINING: _training(items[0]), _FINGERPRINT: key, _KIND: kind}


def _training(submission: Submission) -> str:
    card = submission.package.card
    return _digest([card.dataset_hash, card.parameters_hash, card.git_commit])


def _fingerprint(submission: Submission) -> str:
    """Name one model as judged: another verdict on the same model is another record."""
    card = submission.package.card
    onnx = hashlib.sha256(submission.package.onnx).hexdigest()
    return _digest([_training(submission), card.target, card.family, onnx, submission.verdict.to_json()])


def _digest(parts: Sequence[str | int]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _shown(reasons: Sequence[str]) -> str:
    """The reasons as a tag; MLflow would cut a long one without a word."""
    from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

    text, note = " | ".join(reasons), f" ... (in full in {GATES_FILE})"
    return text if len(text) <= MAX_TAG_VAL_LENGTH else text[: MAX_TAG_VAL_LENGTH - len(note)] + note


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as texts under dotted names."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: str(value)}
    return flat


def _family_params(items: Sequence[Submission]) -> dict[str, str]:
    """Parameters of a family; those that tuning has set differently for its models stand under the model's name."""
    each = {item.evaluation.target: _flat({item.evaluation.family: item.evaluation.parameters}) for item in items}
    params: dict[str, str] = {}
    for target, own in each.items():
        for name, value in own.items():
            shared = all(name in other and other[name] == value for other in each.values())
            params[name if shared else f"{target}.{name}"] = value
    return params


def _values(evaluation: Evaluation) -> list[_Value]:
    policy, baseline = evaluation.policy_performance, evaluation.baseline_performance
    named = {
        "train_score": evaluation.train_score,
        "validation_score": evaluation.validation_score,
        "test_score": evaluation.test_score,
        **{f"test_{name}": value for name, value in evaluation.metrics.items()},
        **{f"test_calibration_{name}": value for name, value in evaluation.calibration.items()},
        **{f"detail_{name}": value for name, value in evaluation.details.items()},
        **{f"baseline_{name}": value for name, value in evaluation.baselines.items()},
        **{f"rows_{name}": float(value) for name, value in evaluation.rows.items()},
        "policy_expectancy": policy.expectancy,
        "policy_total": policy.total,
        "policy_max_drawdown": policy.max_drawdown,
        "take_all_expectancy": baseline.expectancy,
        "take_all_total": baseline.total,
        "take_all_max_drawdown": baseline.max_drawdown,
    }
    values = [_Value(name, value) for name, value in named.items()]
    values += [_Value("fold_score", value, fold) for fold, value in enumerate(evaluation.fold_scores, start=1)]
    values += [_Value("fold_train_score", value, fold) for fold, value in enumerate(evaluation.fold_train_scores, start=1)]
    return values
