"""Field types and the schema version that all contracts share."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from pipelines.errors import AmiralError

SCHEMA_VERSION = "1.0.0"
"""Semantic version of the records. A record of a higher minor or major version is refused."""

WINDOW_BARS = 32
"""Closed bars that every signal carries, oldest first."""

MAX_CLUSTERS = 8
"""Volume clusters that a signal may carry."""

TICK = 0.25
"""Index points per tick; the same for ES, MES, NQ and MNQ."""

POINT_VALUE = {"ES": 50.0, "MES": 5.0, "NQ": 20.0, "MNQ": 2.0}
"""USD per index point and contract."""


def _utc(value: dt.datetime) -> dt.datetime:
    return value.astimezone(dt.UTC)


def _version(value: str) -> str:
    try:
        major, minor, _ = (int(part) for part in value.split("."))
    except ValueError:
        raise ValueError(f"schema version {value!r} must look like {SCHEMA_VERSION}") from None
    own_major, own_minor, _ = (int(part) for part in SCHEMA_VERSION.split("."))
    if (major, minor) > (own_major, own_minor):
        raise ValueError(f"schema version {value} is newer than {SCHEMA_VERSION}, which this Amiral reads; upgrade Amiral and ingest again")
    if major < own_major:
        raise ValueError(f"schema version {value} is older than {own_major}.0.0; convert the records first")
    return value


Utc = Annotated[AwareDatetime, AfterValidator(_utc)]
"""A moment; a naive one is refused, any other zone is converted to UTC."""

Price = Annotated[float, Field(gt=0.0, multiple_of=TICK)]
"""Index points, positive, on the tick grid."""

Level = Annotated[float, Field(gt=0.0)]
"""Index points, positive, not necessarily on the tick grid (a VWAP, a wall)."""

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Signed = Annotated[float, Field(ge=-1.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
CountOrZero = Annotated[int, Field(ge=0)]
TradeId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,80}$")]
SchemaVersion = Annotated[str, AfterValidator(_version)]


class Contract(BaseModel):
    """A record, or a part of one: frozen, strict about keys, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class ContractError(AmiralError):
    """A record does not hold what its contract says."""
