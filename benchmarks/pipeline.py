"""How long the way from bars to features takes, and how it grows.

    python -m benchmarks.pipeline [--bars FOLDER] [--snapshots 100000]

Without a folder of bars the synthetic market of the same size (420 trading days, 115,920 bars) is
measured. Every figure is the median of `--runs` repetitions in a process of its own, after the
imports and one small warm-up that loads the compiled kernels. The last line is one JSON object:

replay_s            build the market table and replay it, seconds
replay_peak_mb      peak resident memory of that process, MB
ingest_100k_s       ingest and validate that many whole snapshots from JSONL, seconds
features_100k_s     twelve features of as many signals, seconds
one_signal_p99_ms   twelve features of one signal, 99th percentile, ms
growth_replay       time at 10x bars / time at 1x / 10 (1 is linear)
growth_features     the same for features
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FULL_SESSIONS = 420
SMALL_SESSIONS = FULL_SESSIONS // 10
ONE_SIGNAL_CALLS = 5000


def main() -> None:
    """Measure everything and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=Path, help="folder with es_5m.parquet (+ nq_5m, vix_1d, option_chains_*)")
    parser.add_argument("--snapshots", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    for measure in (_replay, _growth_of_replay, _ingest, _features, _one_signal):
        found = _in_own_process(measure, arguments)
        print(json.dumps(found))
        figures |= found
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


def _in_own_process(measure: Callable[[argparse.Namespace], dict[str, float]], arguments: argparse.Namespace) -> dict[str, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (arguments,))


def _timed(work: Callable[[], Any], runs: int) -> float:
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _settings(sessions: int) -> Any:
    from pipelines.settings import load_settings

    return load_settings(overrides=[f"synthetic.sessions={sessions}"])


def _walk(inputs: Any, settings: Any) -> Any:
    from pipelines.baseline.replay import replay
    from pipelines.market.frame import build_market

    return replay(build_market(inputs, settings), settings)


def _replay(arguments: argparse.Namespace) -> dict[str, float]:
    from pipelines.market.source import read_folder
    from pipelines.market.synthetic import synthesise

    small, full = _settings(SMALL_SESSIONS), _settings(FULL_SESSIONS)
    _walk(synthesise(small, 1), small)
    if arguments.bars:
        seconds = _timed(lambda: _walk(read_folder(arguments.bars, full), full), arguments.runs)
    else:
        inputs = synthesise(full, 1)
        seconds = _timed(lambda: _walk(inputs, full), arguments.runs)
    return {"replay_s": seconds, "replay_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _growth_of_replay(arguments: argparse.Namespace) -> dict[str, float]:
    from pipelines.market.synthetic import synthesise

    seconds = {}
    for sessions in (SMALL_SESSIONS, FULL_SESSIONS):
        settings = _settings(sessions)
        inputs = synthesise(settings, 1)
        _walk(inputs, settings)
        seconds[sessions] = _timed(lambda inputs=inputs, settings=settings: _walk(inputs, settings), arguments.runs)
    return {"growth_replay": seconds[FULL_SESSIONS] / seconds[SMALL_SESSIONS] / 10}


def _trades(count: int) -> Any:
    """As many trades as asked for: those of a replay, repeated under new ids."""
    import numpy as np
    import pandas as pd

    from pipelines.contracts.tables import Trades, join
    from pipelines.market.synthetic import synthesise

    settings = _settings(SMALL_SESSIONS * 2)
    result = _walk(synthesise(settings, 1), settings)
    trades = join(result.signals, result.outcomes)
    rows = np.arange(count) % len(trades)
    repeated = trades.take(rows)
    ids = pd.array([f"T{number:08d}" for number in range(count)], dtype="str")
    for table in (repeated.signals, repeated.outcomes):
        table.frame["trade_id"] = ids
    return Trades(repeated.signals, repeated.outcomes)


def _ingest(arguments: argparse.Namespace) -> dict[str, float]:
    import orjson

    from pipelines.snapshots.ingest import ingest
    from pipelines.snapshots.store import SnapshotStore

    settings = _settings(SMALL_SESSIONS)
    trades = _trades(arguments.snapshots)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "raw"
        source.mkdir()
        with (source / "all.jsonl").open("wb") as stream:
            for signal, outcome in zip(trades.signals.to_dicts(), trades.outcomes.to_dicts(), strict=True):
                stream.write(orjson.dumps({"signal": signal, "outcome": outcome}) + b"\n")
        store = SnapshotStore(folder / "store")
        seconds = _timed(lambda: ingest([source], store, folder / "quarantine", settings.snapshots), 1)
        stored = len(store.trades())
    if stored != arguments.snapshots:
        raise SystemExit(f"{stored} of {arguments.snapshots} snapshots arrived in the store")
    return {"ingest_100k_s": seconds * 100_000 / arguments.snapshots}


def _features(arguments: argparse.Namespace) -> dict[str, float]:
    from pipelines.features.twelve import compute

    settings = _settings(SMALL_SESSIONS).features
    signals = _trades(100_000).signals
    small = _trades(10_000).signals
    compute(small, settings)
    seconds = _timed(lambda: compute(signals, settings), arguments.runs)
    small_seconds = _timed(lambda: compute(small, settings), 3 * arguments.runs)
    return {"features_100k_s": seconds, "growth_features": seconds / small_seconds / 10}


def _one_signal(_: argparse.Namespace) -> dict[str, float]:
    from pipelines.contracts.signal import Signal
    from pipelines.features.twelve import compute_one

    settings = _settings(SMALL_SESSIONS).features
    signals = [Signal.model_validate(record) for record in _trades(200).signals.to_dicts()]
    times = []
    for number in range(ONE_SIGNAL_CALLS):
        signal = signals[number % len(signals)]
        begin = time.perf_counter()
        compute_one(signal, settings)
        times.append(time.perf_counter() - begin)
    return {"one_signal_p99_ms": 1000 * statistics.quantiles(times, n=100)[98]}


if __name__ == "__main__":
    main()
