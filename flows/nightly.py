"""The nightly flow: the stages as Prefect tasks, in order, resumable because every stage is idempotent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows import learning, stages
from flows.context import Context
from flows.source import Source
from flows.summary import RunSummary
from pipelines.settings import FAMILIES

RETRIES = 2
RETRY_DELAY_S = 3.0


def _worth_another_try(_task: Any, _run: Any, state: Any) -> bool:
    """Retry what may pass (a locked database, a busy disk), not what a person must mend."""
    failure = state.data if isinstance(state.data, BaseException) else getattr(state.data, "exception", None)
    return isinstance(failure, OSError | TimeoutError) or (failure is not None and type(failure).__name__ == "OperationalError")


def _as_task(name: str, stage: Callable[..., Any], *, retries: int = 0) -> Any:
    return task(
        stage,
        name=name,
        task_run_name=name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=retries,
        retry_delay_seconds=RETRY_DELAY_S,
        retry_condition_fn=_worth_another_try if retries else None,
    )


_ingest = _as_task("ingest", stages.ingest, retries=RETRIES)
_validate = _as_task("validate", stages.validate)
_features = _as_task("features", stages.features)
_dataset = _as_task("dataset", stages.dataset)
_train = {family: _as_task(f"train-{family}", learning.train) for family in FAMILIES}
_gate = _as_task("gate", stages.gate)
_register = _as_task("register", stages.register, retries=RETRIES)
_drift = _as_task("drift", stages.drift)
_report = _as_task("report", stages.report)


@flow(name="amiral-nightly", flow_run_name="{run_name}", validate_parameters=False, persist_result=False)
def nightly(context: Context, source: Source, run_name: str) -> RunSummary:  # noqa: ARG001 (names the run)
    """Run every stage and leave a report; a refusal by the data gate stops the run with its reason."""
    _ingest(context, source)
    _validate(context)
    _features(context)
    _dataset(context)
    for family in context.settings.train.families:
        _train[family](context, family)
    _gate(context)
    _register(context)
    _drift(context)
    summary: RunSummary = _report(context)
    _publish(summary)
    return summary


def run_nightly(context: Context, source: Source) -> RunSummary:
    """Run the flow in this process with Prefect's own temporary server.

    Raises
    ------
    BaseException
        What a stage raised, as it was.
    """
    context.reporter.say(f"Reading {source.text}")
    context.reporter.say("Starting Prefect (10 to 25 s) ...")
    state = nightly(context, source, f"{source.kind} {context.now:%Y-%m-%d %H:%M}", return_state=True)
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    summary: RunSummary = result
    return summary


def _publish(summary: RunSummary) -> None:
    lines = "\n".join(f"- {line}" for line in summary.details)
    create_markdown_artifact(
        key="verdict", markdown=f"# {summary.headline}\n\n{lines}\n", description="What was promoted, or why nothing was"
    )
    gates = [
        {"model": f"{verdict['family']}/{verdict['target']}", **{key: gate[key] for key in ("name", "passed", "value", "limit", "reason")}}
        for verdict in summary.verdicts
        for gate in verdict["gates"]
    ]
    if gates:
        create_table_artifact(key="gates", table=gates, description="Every gate with its value, limit and reason")
    create_link_artifact(key="report", link=summary.report.as_uri(), description="The page of this run")
