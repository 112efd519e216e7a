"""Path and query -> route and typed parameters -> the store's target, written anew.

The store's target is made from the catalogue's source and from canonical values alone. No byte of
the client's target is copied: what is authorised is what is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import quote

from proxy.catalogue.target import CONTROL, decode_once, is_safe_segment
from proxy.errors import CounterfoilError
from proxy.plan import Route
from proxy.report import Parameter, Report, Variant
from proxy.values import Scalar, scalar

MOST_VALUE: Final = 1024
"""Characters of a parameter's value."""

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}\Z")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class BadParameter(CounterfoilError):
    """The query is not one that the catalogue declares; `cause` is a fixed slug, never input."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(cause)


# ── values ──


def canonical(parameter: Parameter, text: str) -> str | None:
    """`text` as the one way to write its value, or None where it is no value of the parameter."""
    if len(text) > MOST_VALUE or CONTROL.search(text):
        return None
    value = scalar(text, parameter.type)
    if value is None:
        return None
    written = _written(value)
    if parameter.allowed and written not in _allowed(parameter):
        return None
    return written


@lru_cache(maxsize=1024)
def _allowed(parameter: Parameter) -> frozenset[str]:
    values = (scalar(text, parameter.type) for text in parameter.allowed)
    return frozenset(_written(value) for value in values if value is not None)


def _written(value: Scalar) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.replace(tzinfo=None).isoformat() + "Z"
        case date():
            return value.isoformat()
        case Fraction():
            return _decimal(value)
        case _:
            return str(value)


def _decimal(value: Fraction) -> str:
    """An exact decimal without an exponent or superfluous zeros."""
    places = 0
    while (10**places) % value.denominator:
        places += 1
    digits = str(abs(value.numerator) * (10**places // value.denominator)).rjust(places + 1, "0")
    whole = digits[: len(digits) - places]
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}.{digits[-places:]}" if places else f"{sign}{whole}"


# ── path -> route ──


def segments(path: str) -> list[str]:
    """The segments of a catalogued path, which starts with `/`."""
    return path.split("/")[1:]


def placeholder(segment: str) -> str | None:
    """The parameter's name in a `{name}` segment, else None."""
    matched = _PLACEHOLDER.match(segment)
    return matched[1] if matched else None


def placeholders(path: str) -> list[str]:
    """The names of the parameters in a catalogued path, in its order."""
    return [name for name in map(placeholder, segments(path)) if name is not None]


def overlap(one: tuple[Report, Variant], other: tuple[Report, Variant]) -> bool:
    """Whether some target could match the paths of both; it errs towards yes."""
    mine, theirs = segments(one[1].path), segments(other[1].path)
    if len(mine) != len(theirs):
        return False
    for here, there in zip(mine, theirs, strict=True):
        a, b = placeholder(here), placeholder(there)
        if a is None and b is None:
            possible = here == there
        elif a is None:
            possible = b is not None and _fits(other[0].parameters.get(b), here)
        elif b is None:
            possible = _fits(one[0].parameters.get(a), there)
        else:
            possible = True
        if not possible:
            return False
    return True


def _fits(parameter: Parameter | None, literal: str) -> bool:
    return parameter is None or canonical(parameter, literal) is not None


class _Template(NamedTuple):
    report: Report
    variant: Variant
    parts: tuple[str | Parameter, ...]


class Router:
    """Paths -> routes: a look-up for literal paths, a walk of the segments for the others."""

    def __init__(self, reports: Iterable[Report]) -> None:
        self._literal: dict[str, Route] = {}
        self._templates: dict[int, list[_Template]] = {}
        for report in reports:
            for variant in report.variants:
                parts = segments(variant.path)
                if not placeholders(variant.path):
                    self._literal[variant.path] = Route(
                        report=report, variant=variant, path_values=MappingProxyType({})
                    )
                    continue
                template = _Template(
                    report,
                    variant,
                    tuple(
                        part if (name := placeholder(part)) is None else report.parameters[name]
                        for part in parts
                    ),
                )
                self._templates.setdefault(len(parts), []).append(template)

    def route(self, path: str) -> Route | None:
        """The route whose path `path` equals or whose parameters it gives; there is at most one."""
        found = self._literal.get(path)
        if found is not None or not self._templates or not path.startswith("/"):
            return found
        parts = segments(path)
        for template in self._templates.get(len(parts), ()):
            values = _matched(template.parts, parts)
            if values is not None:
                return Route(
                    report=template.report,
                    variant=template.variant,
                    path_values=MappingProxyType(values),
                )
        return None


def _matched(parts: tuple[str | Parameter, ...], given: list[str]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    for part, segment in zip(parts, given, strict=True):
        if isinstance(part, str):
            if part != segment:
                return None
            continue
        decoded = decode_once(segment)
        if decoded is None or not is_safe_segment(decoded):
            return None
        value = canonical(part, decoded)
        if value is None:
            return None
        values[part.name] = value
    return values


# ── query -> parameters ──


def read_parameters(route: Route, raw_query: str) -> Mapping[str, str]:
    """All parameters of a request, of the path too: name -> canonical value, in declared order.

    Raises BadParameter where the query holds anything but declared parameters, each at most once
    and of its type, or lacks a required one.
    """
    declared = route.report.parameters
    given = dict(route.path_values)
    for pair in raw_query.split("&") if raw_query else ():
        name, equals, text = pair.partition("=")
        if not name or not equals or ";" in pair:
            raise BadParameter("parameter-syntax")
        parameter = declared.get(name)
        if parameter is None:
            raise BadParameter("parameter-unknown")
        if name in given:
            raise BadParameter("parameter-repeated")
        decoded = None if _ESCAPE.search(text) else decode_once(text.replace("+", " "))
        if decoded is None:
            raise BadParameter("parameter-encoding")
        value = canonical(parameter, decoded)
        if value is None:
            raise BadParameter("parameter-value")
        given[name] = value
    source = _source(route.variant.source)
    for name, parameter in declared.items():
        if name not in given:
            if parameter.required or name in source.names:
                raise BadParameter("parameter-missing")
        elif name in source.names and not is_safe_segment(given[name]):
            raise BadParameter("parameter-value")
    return MappingProxyType({name: given[name] for name in declared if name in given})


# ── parameters -> the store's target ──


class _Source(NamedTuple):
    parts: tuple[tuple[str, str | None], ...]
    names: frozenset[str]
    query: str


@lru_cache(maxsize=4096)
def _source(source: str) -> _Source:
    path, _, query = source.partition("?")
    parts = tuple((part, placeholder(part)) for part in segments(path))
    return _Source(parts, frozenset(name for _, name in parts if name is not None), query)


def store_target(route: Route, parameters: Mapping[str, str]) -> str:
    """The target at the store, below its base URL: the source with the parameters' values.

    `parameters` are those of `read_parameters`; what the source's path does not use goes into the
    query, in declared order.
    """
    source = _source(route.variant.source)
    path = "".join(
        f"/{part if name is None else quote(parameters[name], safe='')}"
        for part, name in source.parts
    )
    pairs = [source.query] if source.query else []
    pairs += [
        f"{name}={quote(parameters[name], safe='')}"
        for name in route.report.parameters
        if name in parameters and name not in source.names
    ]
    return f"{path}?{'&'.join(pairs)}" if pairs else path
