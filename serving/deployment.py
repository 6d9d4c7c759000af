"""The model in force, kept fresh in the background.

A thread looks at the registry every `refresh_s` seconds, makes the new deployment ready beside
the old one and then swaps one reference. A request takes that reference once and never waits
for the registry. When the registry cannot be read, the last good model stays.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipelines.errors import InputError, SettingsError, StorageError
from pipelines.features.twelve import FEATURES
from pipelines.layout import DataLayout
from pipelines.settings import Features, Settings
from serving.scorer import Deployment

if TYPE_CHECKING:
    from models.registry import Candidate

log = logging.getLogger("bentoml.amiral")

Load = Callable[[Deployment | None], Deployment | None]
"""Called with the deployment in force; gives the newest one (the same object when nothing is new), or raises."""

NOT_YET = "the model registry is still being read"
NO_CANDIDATE = "no candidate model in the registry"
UNREADABLE = "the model registry cannot be read"


@dataclass(frozen=True)
class View:
    """What a request sees: the model in force, or why there is none."""

    deployment: Deployment | None
    absence: str


class LiveDeployment:
    """A deployment that follows the registry.

    Parameters
    ----------
    load
        Reads the registry; runs in the background thread only.
    refresh_s
        Seconds between two looks.
    """

    def __init__(self, load: Load, refresh_s: float) -> None:
        self._load = load
        self._refresh_s = refresh_s
        self._view = View(None, NOT_YET)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="amiral-registry", daemon=True)

    @property
    def view(self) -> View:
        """The model in force; reading it never waits."""
        return self._view

    @property
    def looked(self) -> bool:
        """Whether the first look at the registry is over, with or without a model."""
        return self._view.absence != NOT_YET

    def start(self) -> None:
        """Begin to follow the registry."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following; the model in force stays. A look under way is not waited for."""
        self._stop.set()

    def refresh(self) -> None:
        """Look at the registry once; never raises."""
        before = self._view
        try:
            found = self._load(before.deployment)
        except Exception:
            # Of whatever kind: a registry that is down must not take the scoring with it.
            staying = before.deployment.version if before.deployment else "no model"
            if before.absence == UNREADABLE:
                log.warning("%s still; %s stays", UNREADABLE, staying)
            else:
                log.exception("%s; %s stays", UNREADABLE, staying)
            self._view = View(before.deployment, UNREADABLE)
            return
        self._view = View(found, NO_CANDIDATE)
        if found is not before.deployment or (not before.deployment and before.absence == NOT_YET):
            log.info("model in force: %s", found.version if found else "none, signals pass unchanged")

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.refresh()
            self._stop.wait(self._refresh_s)


def from_registry(settings: Settings, layout: DataLayout) -> Load:
    """Make the function that reads the registry of a data folder.

    Raises
    ------
    SettingsError
        `serving.required_features` names a feature that does not exist.
    """
    check_required(settings.serving.required_features)

    def load(current: Deployment | None) -> Deployment | None:
        # MLflow takes seconds to import; only the background thread pays for it.
        from models.registry import DATABASE, Registry

        registry = Registry(layout.mlflow, settings.registry)
        if current is not None and not (Path(registry.folder) / DATABASE).exists():
            raise StorageError(f"{registry.folder / DATABASE} is gone", remedy="bring the data folder back")
        found = registry.newest_candidate(settings.serving.target)
        if found is None:
            return None
        return prepare(found, registry.model_name(settings.serving.target), current)

    return load


def prepare(found: Candidate, name: str, current: Deployment | None) -> Deployment:
    """Turn a registered model into a deployment; gives `current` back when it is the same model.

    Raises
    ------
    InputError
        The model is of other features or damaged.
    """
    version = f"{name}/{found.version}"
    fingerprint = hashlib.sha256(found.onnx + found.card.to_json().encode()).hexdigest()
    if current is not None and (current.version, current.fingerprint) == (version, fingerprint):
        return current
    from models.artifact import OnnxScorer

    try:
        features = Features.model_validate(found.card.feature_settings)
    except ValidationError as error:
        raise InputError(f"{version} was trained with other feature settings: {error}", remedy="train again with this code") from None
    simulated = "simulated" in found.card.data_sources
    return Deployment(version, OnnxScorer(found.onnx, found.card), found.card.kind, features, fingerprint, simulated, "candidate")


def check_required(names: tuple[str, ...]) -> None:
    """Refuse names that are no features."""
    unknown = sorted(set(names) - set(FEATURES))
    if unknown:
        raise SettingsError(f"serving.required_features names {', '.join(unknown)}", limit=f"of {', '.join(FEATURES)}")
