"""What a treatment is: the form in which a cell is given, as an operation on a column of values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from proxy.batch import Batch
from proxy.keys import Keyring
from proxy.values import Type

Operation = Callable[[Batch], pl.Series]
"""All rows of a batch -> the treated values of one field (plain text, String, null = no value)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """Where a treatment is applied: one field of one report, for one request."""

    report: str
    field: str
    type: Type
    key: tuple[str, ...]
    """The fields that identify a row; () where the report declares none."""
    purpose: str
    subject: str
    keyring: Keyring


class Treatment(ABC):
    """One row of the table of treatments; instances are frozen, hashable and hold no requester's value."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for the generated documentation."""
    accepts: ClassVar[frozenset[Type]]
    rank: ClassVar[int]
    """Place in the order of preference: the lowest is preferred; `clear` 0, `redact` last."""
    deterministic: ClassVar[bool]
    reversible: ClassVar[bool]

    @property
    def fineness(self) -> tuple[int, ...] | tuple[object, ...]:
        """Within one rank, finer sorts before coarser; total among instances of one class."""
        return ()

    @abstractmethod
    def __str__(self) -> str:
        """The canonical text, which `parse` reads back: `round(100)`."""

    @abstractmethod
    def gives(self, type_: Type) -> Type | None:
        """The type of the treated value; None where there never is a value (`redact`)."""

    @abstractmethod
    def bind(self, site: Site) -> Operation:
        """The operation for one request. Must never raise on data: a cell that is no value of the
        field's type is given as null."""
