"""Columns read off a contract, checked on a small contract whose columns are known by hand."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel, Field

from pipelines.contracts.base import ContractError, Count, NonNegative, Signed, Utc
from pipelines.contracts.columns import Column, columns_of, conform, empty_frame, flatten, nest


class Inner(BaseModel):
    share: Annotated[float, Field(gt=0.0, le=1.0)]
    note: str | None = None


class Outer(BaseModel):
    name: str
    when: Utc
    side: Literal["LONG", "SHORT"]
    size: Count
    lean: Signed | None = None
    loose: NonNegative | None = None
    sure: bool | None = None
    tags: tuple[str, ...] = ()
    inner: Inner
    array: tuple[float, ...] = ()


COLUMNS = columns_of(Outer, leave_out=("array",))


def test_every_field_becomes_a_column_with_its_bounds() -> None:
    assert (
        Column("name", "text", nullable=False),
        Column("when", "time", nullable=False),
        Column("side", "text", nullable=False, choices=("LONG", "SHORT")),
        Column("size", "int", nullable=False, lower=1.0, upper=2.0**53),
        Column("lean", "float", nullable=True, lower=-1.0, upper=1.0),
        Column("loose", "float", nullable=True, lower=0.0),
        Column("sure", "bool", nullable=True),
        Column("tags", "json", nullable=False),
        Column("inner.share", "float", nullable=False, lower=0.0, upper=1.0, lower_open=True),
        Column("inner.note", "text", nullable=True),
    ) == COLUMNS


def test_flatten_and_nest_are_inverse() -> None:
    plain = [
        {"name": "a", "when": "2024-01-02T15:00:00Z", "side": "LONG", "size": 2, "tags": ["x"], "inner": {"share": 0.5, "note": "n"}},
        {"name": "", "when": "2024-07-02T15:00:00.25Z", "side": "SHORT", "size": 1, "lean": -1.0, "sure": False, "inner": {"share": 1.0}},
    ]
    models = [Outer.model_validate(record) for record in plain]
    table = flatten(models, COLUMNS)
    assert table.dtypes.astype(str).to_dict()["when"] == "datetime64[us, UTC]"
    assert [Outer.model_validate(record) for record in nest(table, COLUMNS)] == models
    assert np.isnan(table["lean"][0])


def test_a_single_column_and_an_empty_table() -> None:
    one = (COLUMNS[0],)
    record = Outer.model_validate({"name": "a", "when": "2024-01-02T15:00:00Z", "side": "LONG", "size": 2, "inner": {"share": 0.5}})
    assert flatten([record, record], one)["name"].tolist() == ["a", "a"]
    assert list(empty_frame(COLUMNS).columns) == [column.path for column in COLUMNS]
    assert empty_frame(COLUMNS).dtypes.equals(flatten([record], COLUMNS).dtypes)


def test_conform_completes_and_refuses() -> None:
    table = conform(pd.DataFrame({"inner.share": [0.5]}), COLUMNS)
    assert table["name"].isna().all()
    assert table["inner.share"].tolist() == [0.5]
    with pytest.raises(ContractError, match="unknown column\\(s\\) 'profit'; expected the columns of the contract"):
        conform(pd.DataFrame({"profit": [1.0]}), COLUMNS)


def test_a_field_of_two_types_is_refused() -> None:
    class Unclear(BaseModel):
        value: int | str

    with pytest.raises(TypeError, match="one type or None"):
        columns_of(Unclear)
