"""Field types and the schema version that all contracts share."""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from pipelines.errors import AmiralError
from pipelines.new_york import FIRST_YEAR, LAST_YEAR

SCHEMA_VERSION = "1.0.0"
"""Semantic version of the records. A record of a higher minor or major version is refused."""

WINDOW_BARS = 32
"""Closed bars that every signal carries, oldest first."""

MAX_CLUSTERS = 8
"""Volume clusters that a signal may carry."""

TICK = 0.25
"""Index points per tick; the same for ES, MES, NQ and MNQ."""

MAX_WHOLE = 2**53
"""Largest whole number that a table column (float64) holds exactly."""

POINT_VALUE = {"ES": 50.0, "MES": 5.0, "NQ": 20.0, "MNQ": 2.0}
"""USD per index point and contract."""

EARLIEST = dt.datetime(FIRST_YEAR, 1, 1, tzinfo=dt.UTC)
LATEST = dt.datetime(LAST_YEAR, 1, 1, tzinfo=dt.UTC) - dt.timedelta(microseconds=1)
"""First and last moment of a record: 2007 to 2098, where the New York time of it and of the next day is known."""

_SEMANTIC = re.compile(r"[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}")


def _utc(value: dt.datetime) -> dt.datetime:
    if not EARLIEST <= value <= LATEST:
        raise ValueError(f"{value.isoformat()} lies outside the years {EARLIEST.year} to {LATEST.year} in UTC")
    return value.astimezone(dt.UTC)


@lru_cache(maxsize=64)
def _version(value: str) -> str:
    if not _SEMANTIC.fullmatch(value):
        raise ValueError(f"schema version {value[:40]!r} must look like {SCHEMA_VERSION}")
    major, minor, _ = (int(part) for part in value.split("."))
    own_major, own_minor, _ = (int(part) for part in SCHEMA_VERSION.split("."))
    if (major, minor) > (own_major, own_minor):
        raise ValueError(f"schema version {value} is newer than {SCHEMA_VERSION}, which this Amiral reads; upgrade Amiral and ingest again")
    if major < own_major:
        raise ValueError(f"schema version {value} is older than {own_major}.0.0; convert the records first")
    return value


Utc = Annotated[AwareDatetime, AfterValidator(_utc)]
"""A moment from `EARLIEST` to `LATEST`; a naive one is refused, any other zone is converted to UTC."""

Price = Annotated[float, Field(gt=0.0, multiple_of=TICK)]
"""Index points, positive, on the tick grid."""

Level = Annotated[float, Field(gt=0.0)]
"""Index points, positive, not necessarily on the tick grid (a VWAP, a wall)."""

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Signed = Annotated[float, Field(ge=-1.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Whole = Annotated[int, Field(ge=-MAX_WHOLE, le=MAX_WHOLE)]
CountOrZero = Annotated[int, Field(ge=0, le=MAX_WHOLE)]
Count = Annotated[int, Field(ge=1, le=MAX_WHOLE)]
TradeId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,80}$")]
SchemaVersion = Annotated[str, AfterValidator(_version)]


class Contract(BaseModel):
    """A record, or a part of one: frozen, strict about keys, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, *, strict: bool | None = True, **options: Any) -> Self:
        """Read JSON without guessing: a number must be a number, true or false a bool, a time text.

        Rows of a table go through `model_validate`, which is lax: there a whole number is held as a float.
        """
        return super().model_validate_json(json_data, strict=strict, **options)


class ContractError(AmiralError):
    """A record does not hold what its contract says."""
