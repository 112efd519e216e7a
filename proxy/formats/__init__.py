"""The formats in which reports come and go: a table of all.

A format is added by a module that defines one `Format`, and a row here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from proxy.formats.arrow import ARROW
from proxy.formats.base import CAUSES, Columns, Decoder, Encoder, Format, Limits, Reading
from proxy.formats.csv import CSV
from proxy.formats.json import JSON
from proxy.formats.ndjson import NDJSON
from proxy.formats.parquet import PARQUET
from proxy.formats.xlsx import XLSX
from proxy.report import FormatName

FORMATS: Final[Mapping[FormatName, Format]] = MappingProxyType(
    {row.name: row for row in (CSV, JSON, NDJSON, ARROW, PARQUET, XLSX)}
)

__all__ = ["CAUSES", "FORMATS", "Columns", "Decoder", "Encoder", "Format", "Limits", "Reading"]
