"""Process settings of the libraries that we stand on: no telemetry, no noise, state under the data folder.

Call `prepare` before the first import of Prefect, MLflow or Evidently: they read the environment
once, at import.
"""

from __future__ import annotations

import logging
import os

from pipelines.layout import DataLayout
from pipelines.telemetry import TELEMETRY_OFF

QUIET = {
    # The console shows our own words; Prefect's log stays in its own user interface.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


def _worth_saying(record: logging.LogRecord) -> bool:
    """Whether a warning concerns the user: scikit-learn's about its own threads, which ours make by racing, does not."""
    return "sklearn.utils.parallel.delayed" not in record.getMessage()


def prepare(layout: DataLayout) -> None:
    """Set what the user has not set, except telemetry, which is always off."""
    logging.captureWarnings(capture=True)
    handler = logging.StreamHandler()
    handler.addFilter(_worth_saying)
    logger = logging.getLogger("py.warnings")
    logger.handlers, logger.propagate = [handler], False
    os.environ.update(TELEMETRY_OFF)
    defaults = QUIET | {
        "PREFECT_HOME": str(layout.prefect),
        # A first start migrates Prefect's database, which takes longer than its own default on a small machine.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
