"""How long training takes, family by family, and what the exported models cost.

    python -m benchmarks.training [--bars ../shared/data] [--family linear ...] [--skip-growth]

ES and NQ bars are replayed with the default baseline and pooled (about 9,300 trades). Without a folder
of bars a synthetic market of about as many trades is used. Every family is measured in a process
of its own, after its imports: all its models, each with the purged folds and the final fit, without
tuning and explanation. The last line is one JSON object:

linear_s ... ensemble_s   seconds of one training of the family
peak_mb                   peak resident memory of that process, MB, by family
onnx_p99_us               scoring one row with ONNX Runtime, 99th percentile, microseconds, the slowest model of each family
parity_max                largest difference between ONNX and Python scores over all trades, by family
growth                    time at 10x the trades / time at 1x / 10, the worst family but the LSTM (1 is linear; n log n is 1.25)
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CALLS = 3000
COPIES = 10
SYNTHETIC_SESSIONS = 820
NQ = ("instrument.symbol=NQ", "instrument.price_min=1000.0", "instrument.price_max=40000.0")


def main() -> None:
    """Measure every family and print the figures."""
    from pipelines.settings import FAMILIES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=Path, help="folder with es_5m.parquet and nq_5m.parquet")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="only this family; may be given more than once")
    parser.add_argument("--skip-growth", action="store_true", help="leave the 10x measurement out")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"peak_mb": {}, "onnx_p99_us": {}, "parity_max": {}}
    growths = []
    for family in arguments.family or FAMILIES:
        found = _in_own_process(_measure, family, arguments)
        print(json.dumps({"family": family, **found}), flush=True)
        figures[f"{family}_s"] = found["seconds"]
        for key in ("peak_mb", "onnx_p99_us", "parity_max"):
            figures[key][family] = found[key]
        if family != "lstm" and not arguments.skip_growth:
            longer = _in_own_process(_measure_long, family, arguments)
            ratio = round(longer["seconds"] / found["seconds"] / COPIES, 3)
            print(json.dumps({"family": family, "trades": longer["trades"], "seconds": longer["seconds"], "growth": ratio}), flush=True)
            growths.append(ratio)
    order = [f"{family}_s" for family in FAMILIES] + ["peak_mb", "onnx_p99_us", "parity_max"]
    print(json.dumps({key: figures[key] for key in order if key in figures} | {"growth": max(growths, default=None)}))


def _in_own_process(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def _dataset(bars: Path | None) -> Any:
    from pipelines import dataset as datasets
    from pipelines.baseline.replay import replay
    from pipelines.contracts.tables import OutcomeTable, SignalTable, join
    from pipelines.features.twelve import compute
    from pipelines.features.window import compute_windows
    from pipelines.market.frame import build_market
    from pipelines.market.source import read_folder
    from pipelines.market.synthetic import synthesise
    from pipelines.settings import load_settings

    settings = load_settings(overrides=[f"synthetic.sessions={SYNTHETIC_SESSIONS}"])
    if bars is None:
        results = [replay(build_market(synthesise(settings, settings.seed), settings), settings)]
    else:
        both = (settings, load_settings(overrides=NQ))
        results = [replay(build_market(read_folder(bars, one), one), one) for one in both]
    signals = SignalTable.concat([result.signals for result in results])
    trades = join(signals, OutcomeTable.concat([result.outcomes for result in results]))
    features, windows = compute(trades.signals, settings.features), compute_windows(trades.signals)
    return datasets.build(trades, features, windows, settings, code_version="benchmark")


def _warm(family: str, settings: Any) -> None:
    """Import what the family needs and compile nothing later: the second training is the measured one."""
    import numpy as np

    from models.families import FAMILIES

    spec = FAMILIES[family]  # type: ignore[index]
    rng = np.random.default_rng(0)
    width = 12 + (32 * 6 if spec.windowed else 0)
    start = np.arange(400) * 3_600_000_000_000
    label = (np.arange(400) % 3 == 0).astype(float)
    spec.build(spec.models[0], settings).fit(rng.uniform(-1, 1, (400, width)), label, start=start, end=start)


def _train(family: str, dataset: Any, settings: Any) -> tuple[Any, float]:
    from models.training import train_family

    def progress(text: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{family}: {done} of {total} fits ({text})\033[K", end="" if done < total else "\n", file=sys.stderr, flush=True)

    begin = time.perf_counter()
    found = train_family(dataset, family, settings, progress=progress)
    seconds = time.perf_counter() - begin
    if found.failures:
        raise SystemExit(f"{family}: {found.failures}")
    return found, seconds


def _measure(family: str, arguments: argparse.Namespace) -> dict[str, Any]:
    from models.artifact import OnnxScorer
    from models.export import package
    from pipelines.settings import load_settings

    settings = load_settings()
    dataset = _dataset(arguments.bars)
    _warm(family, settings)
    found, seconds = _train(family, dataset, settings)
    latencies, parities = {}, {}
    for model in found.models:
        packed = package(model, dataset, settings, git_commit="benchmark")
        parities[model.evaluation.target] = packed.parity
        latencies[model.evaluation.target] = _latency(OnnxScorer(packed.onnx, packed.card), dataset)
    return {
        "trades": len(dataset),
        "models": len(found.models),
        "seconds": round(seconds, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "onnx_p99_us": round(max(latencies.values()), 1),
        "parity_max": max(parities.values()),
    }


def _measure_long(family: str, arguments: argparse.Namespace) -> dict[str, Any]:
    from pipelines.settings import load_settings

    settings = load_settings()
    dataset = _longer(_dataset(arguments.bars))
    _warm(family, settings)
    _, seconds = _train(family, dataset, settings)
    return {"trades": len(dataset), "seconds": round(seconds, 2)}


def _longer(dataset: Any) -> Any:
    """Ten times the trades: each copy drawn anew from all trades' features, and shifted behind the one before."""
    import numpy as np
    import pandas as pd

    from pipelines.dataset import Dataset, content_hash

    rng = np.random.default_rng(0)
    frame = dataset.frame
    span = frame["exit_time"].max() - frame["decision_time"].min() + pd.Timedelta(days=7)
    keep = ["trade_id", "decision_time", "exit_time"]
    parts, windows = [], []
    for copy in range(COPIES):
        rows = rng.integers(0, len(frame), len(frame)) if copy else np.arange(len(frame))
        part = frame.iloc[rows].reset_index(drop=True)
        part[keep] = frame[keep]
        part["trade_id"] = part["trade_id"] + f"-{copy}"
        part["decision_time"] += copy * span
        part["exit_time"] += copy * span
        parts.append(part)
        windows.append(dataset.windows[rows])
    longer, stacked = pd.concat(parts, ignore_index=True), np.concatenate(windows)
    return Dataset(longer, dataset.card | {"content_hash": content_hash(longer, stacked)}, stacked)


def _latency(scorer: Any, dataset: Any) -> float:
    """99th percentile of scoring one row, microseconds."""
    import numpy as np

    times = np.empty(CALLS)
    rows = dataset.features[:CALLS], dataset.windows[:CALLS].astype(np.float64)
    for call in range(CALLS):
        row = call % len(rows[0])
        features, window = rows[0][row : row + 1], rows[1][row : row + 1] if scorer.windowed else None
        begin = time.perf_counter()
        scorer.score(features, window)
        times[call] = time.perf_counter() - begin
    return float(np.percentile(times[CALLS // 10 :], 99) * 1e6)


if __name__ == "__main__":
    main()
