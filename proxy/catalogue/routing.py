"""Path and query -> route and typed parameters -> the store's target, written anew.

The store's target is made from the catalogue's source and from canonical values alone. No byte of
the client's target is copied: what is authorised is what is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import date, datetime
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import quote

from proxy.catalogue.target import CONTROL, decode_once, is_safe_segment
from proxy.errors import CounterfoilError
from proxy.plan import Route
from proxy.report import By, Operator, Ordering, Parameter, Report, Variant
from proxy.values import Scalar, Type, scalar

MOST_VALUE: Final = 1024
"""Characters of a parameter's value."""
_REMEMBERED: Final = 2048
_MEMORABLE: Final = 512
"""Requests that are remembered, and the characters of a path and query up to which one is."""

_SYNTAX: Final = "parameter-syntax"
_EXAMPLES: Final = {
    Type.DATE: "a date such as 2026-12-24",
    Type.DATETIME: "a time such as 2026-12-24T18:00:00Z",
    Type.INTEGER: "a whole number",
    Type.DECIMAL: "a number such as 12.50",
    Type.BOOLEAN: "true or false",
    Type.TEXT: f"a text of at most {MOST_VALUE} characters, percent-encoded as UTF-8",
}
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}\Z")
_COUNT = re.compile(r"[0-9]{1,18}\Z")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class BadParameter(CounterfoilError):
    """The query is not one that the catalogue declares; `cause` is a fixed slug, never input."""

    def __init__(self, cause: str, parameter: Parameter | None = None) -> None:
        """`parameter`: the declared one that it is about."""
        self.cause = cause
        self.parameter = parameter
        super().__init__(cause)

    def help(self, visible: Collection[str]) -> str:
        """What is wrong, in words of the catalogue's alone; '' where the cause says all.

        Of fields only those in `visible` are named.
        """
        if self.parameter is None:
            return "Write `name=value`, with `&` between." if self.cause == _SYNTAX else ""
        name = self.parameter.name
        match self.cause:
            case "parameter-repeated":
                return f"`{name}` is given more than once."
            case "parameter-missing":
                return f"`{name}` is required."
            case _:
                return f"`{name}` is {_expected(self.parameter, visible)}."


class Asked(NamedTuple):
    """What a request asks for: the values of its parameters, and where the store has it."""

    parameters: Mapping[str, str]
    target: str


# ── values ──


def canonical(parameter: Parameter, text: str) -> str | None:
    """`text` as the one way to write its value, or None where it is no value of the parameter."""
    if len(text) > MOST_VALUE or CONTROL.search(text):
        return None
    match parameter.by:
        case By.FILTER if parameter.operator is Operator.IN:
            each = [_single(parameter, part) for part in text.split(",")]
            values = [value for value in each if value]
            return ",".join(values) if len(values) == len(each) else None
        case By.FILTER:
            return _single(parameter, text)
        case By.ORDER | By.GROUP:
            meant = [_words(parameter).get(word) for word in text.split(",")]
            named = {ordering.field for ordering in meant if ordering is not None}
            return text if len(named) == len(meant) else None
        case By.LIMIT | By.OFFSET:
            least = 1 if parameter.by is By.LIMIT else 0
            value = int(text) if _COUNT.match(text) else -1
            return str(value) if least <= value <= parameter.most else None


def _expected(parameter: Parameter, visible: Collection[str]) -> str:
    """What a parameter's value is, in words."""
    match parameter.by:
        case By.ORDER | By.GROUP:
            words = [word for word, meant in parameter.words if meant.field in visible]
            return f"one or more of {', '.join(words) or 'no field'}, with `,` between"
        case By.LIMIT | By.OFFSET:
            least = 1 if parameter.by is By.LIMIT else 0
            return f"a whole number from {least} to {parameter.most}"
        case By.FILTER:
            one = _EXAMPLES[parameter.type]
            if parameter.allowed:
                one = f"one of {', '.join(parameter.allowed)}"
            return (
                f"{one}, or several with `,` between" if parameter.operator is Operator.IN else one
            )


def _single(parameter: Parameter, text: str) -> str | None:
    value = scalar(text, parameter.type)
    if value is None:
        return None
    written = _written(value)
    if parameter.allowed and written not in _allowed(parameter):
        return None
    return written


@lru_cache(maxsize=1024)
def _words(parameter: Parameter) -> Mapping[str, Ordering]:
    return dict(parameter.words)


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


class _Node:
    """What can follow a beginning of a path: fixed segments, parameters, or the end."""

    __slots__ = ("end", "fixed", "open")

    def __init__(self) -> None:
        self.fixed: dict[str, _Node] = {}
        self.open: dict[Parameter, _Node] = {}
        self.end: tuple[Report, Variant] | None = None


class Router:
    """Paths -> routes: a look-up for literal paths, a walk along the segments for the others."""

    def __init__(self) -> None:
        self._literal: dict[str, Route] = {}
        self._root = _Node()
        self._remembered = lru_cache(_REMEMBERED)(self._ask)

    def add(self, report: Report, variant: Variant) -> tuple[Report, Variant] | None:
        """Add a variant's path, unless some target could match it and another: the other is given."""
        parts = _parts(report, variant.path)
        other = _overlapping(self._root, parts)
        if other is not None:
            return other
        node = self._root
        for part in parts:
            if isinstance(part, str):
                node = node.fixed.setdefault(part, _Node())
            else:
                node = node.open.setdefault(part, _Node())
        node.end = (report, variant)
        if all(isinstance(part, str) for part in parts):
            self._literal[variant.path] = Route(
                report=report, variant=variant, path_values=MappingProxyType({})
            )
        return None

    def route(self, path: str) -> Route | None:
        """The route whose path `path` equals or whose parameters it gives; there is at most one."""
        found = self._literal.get(path)
        if found is not None or not path.startswith("/"):
            return found
        values: dict[str, str] = {}
        end = _walked(self._root, segments(path), values)
        if end is None:
            return None
        report, variant = end
        return Route(report=report, variant=variant, path_values=MappingProxyType(values))

    def ask(self, path: str, query: str, *, by: str) -> Asked:
        """What `by` asks for with a path that has a route, and this query; raises BadParameter.

        What was asked before is remembered for each asker apart: nobody's time tells of another.
        """
        if len(path) + len(query) > _MEMORABLE:
            return self._ask(by, path, query)
        return self._remembered(by, path, query)

    def _ask(self, _: str, path: str, query: str) -> Asked:
        route = self.route(path)
        if route is None:
            raise BadParameter("no-route")
        parameters = read_parameters(route, query)
        return Asked(parameters, store_target(route, parameters))


def _parts(report: Report, path: str) -> list[str | Parameter]:
    """A path's segments; one that names no declared parameter stands for any text."""
    parts: list[str | Parameter] = []
    for segment in segments(path):
        name = placeholder(segment)
        if name is None:
            parts.append(segment)
        else:
            parts.append(report.parameters.get(name) or Parameter(name=name, type=Type.TEXT))
    return parts


def _overlapping(node: _Node, parts: list[str | Parameter]) -> tuple[Report, Variant] | None:
    """A path below `node` that could match the same target as `parts`; it errs towards one."""
    if not parts:
        return node.end
    first, rest = parts[0], parts[1:]
    if isinstance(first, str):
        possible = [node.fixed[first]] if first in node.fixed else []
        possible += [each for part, each in node.open.items() if canonical(part, first) is not None]
    else:
        possible = [each for part, each in node.fixed.items() if canonical(first, part) is not None]
        possible += node.open.values()
    found = (_overlapping(each, rest) for each in possible)
    return next((each for each in found if each is not None), None)


def _walked(node: _Node, given: list[str], values: dict[str, str]) -> tuple[Report, Variant] | None:
    """The end that `given` leads to, with the values of the parameters on the way."""
    if not given:
        return node.end
    first, rest = given[0], given[1:]
    fixed = node.fixed.get(first)
    end = None if fixed is None else _walked(fixed, rest, values)
    if end is not None or not node.open:
        return end
    decoded = decode_once(first)
    if decoded is None or not is_safe_segment(decoded):
        return None
    for parameter, below in node.open.items():
        value = canonical(parameter, decoded)
        end = None if value is None else _walked(below, rest, values)
        if value is not None and end is not None:
            values[parameter.name] = value
            return end
    return None


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
            raise BadParameter(_SYNTAX)
        parameter = declared.get(name)
        if parameter is None:
            raise BadParameter("parameter-unknown")
        if name in given:
            raise BadParameter("parameter-repeated", parameter)
        decoded = None if _ESCAPE.search(text) else decode_once(text.replace("+", " "))
        if decoded is None:
            raise BadParameter("parameter-encoding", parameter)
        value = canonical(parameter, decoded)
        if value is None:
            raise BadParameter("parameter-value", parameter)
        given[name] = value
    source = _source(route.variant.source)
    for name, parameter in declared.items():
        if name not in given:
            if parameter.required or name in source.names:
                raise BadParameter("parameter-missing", parameter)
        elif name in source.names and not is_safe_segment(given[name]):
            raise BadParameter("parameter-value", parameter)
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
    query, in declared order. A page is cut out of the requester's own rows: the store is not told.
    """
    source = _source(route.variant.source)
    path = "".join(
        f"/{part if name is None else quote(parameters[name], safe='')}"
        for part, name in source.parts
    )
    pairs = [source.query] if source.query else []
    pairs += [
        f"{name}={quote(parameters[name], safe='')}"
        for name, parameter in route.report.parameters.items()
        if name in parameters and name not in source.names and not parameter.pages
    ]
    return f"{path}?{'&'.join(pairs)}" if pairs else path
