"""No test reports home, whatever it imports first."""

from __future__ import annotations

import os

from pipelines.telemetry import TELEMETRY_OFF

os.environ.update(TELEMETRY_OFF)
