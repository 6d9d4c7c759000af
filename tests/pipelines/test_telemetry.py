from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_onnx_runtime_keeps_no_record_of_its_user(tmp_path: Path) -> None:
    """It writes a device id and queued events into the home folder when its telemetry is on."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | {"HOME": str(tmp_path)}
    code = "import models.artifact, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "1\n"
    assert not (tmp_path / ".cache" / "Microsoft").exists()
