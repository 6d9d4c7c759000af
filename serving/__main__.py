"""`python -m serving`: start the scoring service and stay with it until Ctrl-C."""

from __future__ import annotations

import argparse
import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import AmiralError, SettingsError
from pipelines.layout import DataLayout
from pipelines.settings import DEFAULT_PARAMS, PROJECT_ROOT, load_settings
from pipelines.storage import storage_errors
from pipelines.telemetry import TELEMETRY_OFF
from serving.deployment import check_required
from serving.environment import to_environment

FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Check settings and port, then become BentoML's server process."""
    options = _parser().parse_args(arguments)
    overrides = [*options.overrides, *([f"serving.port={options.port}"] if options.port is not None else [])]
    try:
        settings = load_settings(options.params, overrides)
        check_required(settings.serving.required_features)
        layout = DataLayout(options.data or options.params.absolute().parent / settings.paths.data)
        host, port = settings.serving.host, settings.serving.port
        _check_address(host, port)
        home = _bentoml_home(layout)
    except AmiralError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    environment = {**os.environ, **TELEMETRY_OFF, **to_environment(options.params, layout.root, overrides), "BENTOML_HOME": str(home)}
    print(f"Amiral scores signals at http://{host}:{port}/v1/score with the candidate of {layout.mlflow}; Ctrl-C stops.", flush=True)
    command = [sys.executable, "-m", "bentoml", "serve", "serving.service:Amiral", "--host", host, "--port", str(port)]
    os.execve(sys.executable, [*command, "--working-dir", str(PROJECT_ROOT)], environment)  # noqa: S606 - no shell wanted


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve the newest candidate model over HTTP.")
    parser.add_argument("--params", type=Path, default=DEFAULT_PARAMS, help="settings file (default: the project's params.yaml)")
    parser.add_argument("--data", type=Path, default=None, help="data folder with the registry (default: paths.data)")
    parser.add_argument("--port", type=int, default=None, help="TCP port (default: serving.port)")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="change one setting")
    return parser


def _check_address(host: str, port: int) -> None:
    """Find out now, in words, what BentoML would report with a stack trace later."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        raise SettingsError(f"serving.host is {host!r}", limit="an IP address such as 127.0.0.1") from None
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            remedy = "stop the other program or choose another port with --port" if error.errno == errno.EADDRINUSE else "choose another"
            raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}", remedy=remedy) from None


def _bentoml_home(layout: DataLayout) -> Path:
    """Keep BentoML's own files (metrics of its processes) out of the user's home."""
    chosen = os.environ.get("BENTOML_HOME")
    home = Path(chosen) if chosen else layout.root / "bentoml"
    with storage_errors(home):
        home.mkdir(parents=True, exist_ok=True)
    return home.absolute()


if __name__ == "__main__":
    sys.exit(main())
