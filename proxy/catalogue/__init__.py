"""What can be asked for: `policies/reports.yaml`, and the routes from targets to its reports.

    stores:
      sales:
        url: https://reports.example.com/api    # loopback addresses only with `loopback: true`
        credential: env:SALES_STORE_TOKEN       # or file:PATH; sent as `Authorization: Bearer …`
    purposes: [reconcile, audit]
    classes: [public, internal, confidential, personal]    # these four where left out
    reports:
      sales/store-daily:
        title: Daily sales by store
        store: sales
        key: [date, store_id, sku]              # what identifies a row
        ordered_by: [date, net_sales]           # whoever may not see these gets the rows in another order
        prefer: [pseudonym, partial]            # between forms that have no order
        shape: stable                           # columns that are not granted are given as nulls
        variants:
          - {path: /sales/store-daily.csv, format: csv}    # the source is the path
          - {path: "/sales/{store_id}.json", format: json, source: "/daily?all=1", rows_at: [data],
             members: {licence: internal use}}                # beside the rows: constants alone
        parameters:
          from: {type: date, field: date, operator: ge}
          store_id: {type: text, field: store_id}
          find: {type: text, fields: [date, net_sales], operator: contains}
          sort: {by: order, fields: [date, net_sales], direction: minus}    # `-date`, `date,-net_sales`
          limit: {by: limit, most: 1000}        # of the requester's own rows; the store is not told
        fields:
          date: {type: date, class: public}
          net_sales: {type: decimal, class: confidential}

A request's target is parsed once (`parse_target`) and routed (`Catalogue.route`). What it asks for
(`Catalogue.ask`) are its parameters, read into canonical values (`read_parameters`), and the store's
target, written anew from the catalogue and these values (`store_target`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Self

from proxy.catalogue.reading import read
from proxy.catalogue.routing import (
    Asked,
    BadParameter,
    Router,
    canonical,
    read_parameters,
    store_target,
)
from proxy.catalogue.target import MalformedTarget, Target, parse_target
from proxy.plan import Route
from proxy.report import Report, Store

__all__ = [
    "Asked",
    "BadParameter",
    "Catalogue",
    "MalformedTarget",
    "Target",
    "canonical",
    "parse_target",
    "read_parameters",
    "store_target",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """Every store, report, purpose and class that an admin declared."""

    stores: Mapping[str, Store]
    reports: Mapping[str, Report]
    """By id."""
    purposes: frozenset[str]
    classes: frozenset[str]
    files: frozenset[str]
    """The files that credentials are in, from the folder."""
    _router: Router = field(repr=False, compare=False)

    @classmethod
    def load(
        cls,
        text: bytes,
        *,
        file: str,
        environment: Mapping[str, str],
        folder: Path | None,
        audiences: frozenset[str] | None = None,
        commands: frozenset[str] = frozenset(),
        closed: frozenset[Path] = frozenset(),
    ) -> Self:
        """The catalogue that `text` writes; raises Faulty with all that is wrong with it.

        Credentials come from `environment` and from files below or beside `folder`; without a folder
        there are none, as a review needs none. `audiences` are those that a token can have; None where
        that is not known. `commands` are those that counterfoil.yaml names; files that are `closed` are
        shown to no store.
        """
        parts = read(
            text,
            file=file,
            environment=environment,
            folder=folder,
            audiences=audiences,
            commands=commands,
            closed=closed,
        )
        return cls(
            stores=MappingProxyType(parts.stores),
            reports=MappingProxyType(parts.reports),
            purposes=parts.purposes,
            classes=parts.classes,
            files=parts.files,
            _router=parts.router,
        )

    def route(self, path: str) -> Route | None:
        """The report and variant that `path` (of a `Target`) names, or None."""
        return self._router.route(path)

    def ask(self, target: Target, *, by: str) -> Asked:
        """What `by` asks for with a target whose path has a route; raises BadParameter."""
        return self._router.ask(target.path, target.query, by=by)
