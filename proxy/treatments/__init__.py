"""Treatments: the forms in which a cell is given, as one table, and their text in policy.csv.

The order of preference is by (rank, fineness): the lowest is given where several are granted. It is
a preference, not an order of information: `comparable` says which two forms have one, and a policy
in which two others can meet on one field is refused unless the report declares `prefer:`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final

from proxy.treatments.base import BadArgument, Parameter, Site, Treatment
from proxy.treatments.buckets import Bucket
from proxy.treatments.clear import Clear
from proxy.treatments.constants import Constant, Redact
from proxy.treatments.encryption import Encrypt, opened
from proxy.treatments.masking import Partial
from proxy.treatments.pseudonyms import Pseudonym
from proxy.treatments.rounding import Round
from proxy.treatments.shifting import Shift
from proxy.treatments.suppression import Suppress
from proxy.treatments.syntax import Argument, BadTreatment, read
from proxy.treatments.tokens import Tokenise, detokenise
from proxy.treatments.truncation import Truncate
from proxy.values import Type

__all__ = [
    "TABLE",
    "WITHOUT_ORDER",
    "BadTreatment",
    "Site",
    "Treatment",
    "by_type",
    "comparable",
    "detokenise",
    "documentation",
    "opened",
    "parse",
    "place",
]

_ALL: Final[tuple[type[Treatment], ...]] = (
    Clear,
    Suppress,
    Round,
    Bucket,
    Truncate,
    Shift,
    Partial,
    Tokenise,
    Pseudonym,
    Encrypt,
    Constant,
    Redact,
)

TABLE: Final[Mapping[str, type[Treatment]]] = MappingProxyType({each.name: each for each in _ALL})
"""Every treatment by its name, most preferred first."""

_ANYWHERE: Final = (Clear, Encrypt, Constant, Redact)
"""Forms that have a place before or after every other: all of the cell, or none of it."""

WITHOUT_ORDER: Final = tuple(name for name, each in TABLE.items() if each not in _ANYWHERE)
"""The treatments that `prefer:` can put into an order. Were `redact` preferred to `clear`, an allow
line more would hide a cell."""


def parse(text: str) -> Treatment:
    """The treatment that `text` writes: `round(100)`, `partial(last=4)`; raises BadTreatment."""
    call = read(text)
    kind = TABLE.get(call.name)
    if kind is None:
        raise BadTreatment(
            call.offset, f"no treatment is called `{call.name}`", _nearest(call.name, TABLE)
        )
    arguments: dict[str, Any] = {}
    places: dict[str, tuple[int, ...]] = {}
    positional = (each for each in kind.parameters if each.positional)
    for argument in call.arguments:
        parameter = (
            _named(kind, argument)
            if argument.name
            else _next(kind, next(positional, None), argument)
        )
        if parameter.name in places:
            hint = "take one of them out"
            raise BadTreatment(argument.offset, f"`{parameter.name}` is given twice", hint)
        places[parameter.name] = (argument.offset, *argument.offsets[1:])
        try:
            arguments[parameter.attribute] = _value(parameter, argument)
        except BadTreatment:
            raise
        except ValueError as expected:
            quoted = argument.literals[0].quoted and "quotes" not in str(expected)
            raise BadTreatment(
                argument.offset,
                f"`{parameter.name}` of `{kind.name}` is {expected}",
                "write it without quotes" if quoted else f"{parameter.name}: {parameter.summary}",
            ) from None
    for parameter in kind.parameters:
        if parameter.required and parameter.name not in places:
            raise BadTreatment(
                call.offset,
                f"`{kind.name}` needs `{parameter.name}`",
                f"{parameter.name}: {parameter.summary}",
            )
    try:
        return kind(**arguments)
    except BadArgument as bad:
        offset = places.get(bad.parameter, (call.offset,))[bad.number]
        raise BadTreatment(offset, str(bad), bad.hint) from None


def place(text: str, parameter: str) -> int:
    """Where in the text of a treatment its argument `parameter` stands; `text` is one that parses."""
    call = read(text)
    positional = (each.name for each in TABLE[call.name].parameters if each.positional)
    offsets = {each.name or next(positional, ""): each.offset for each in call.arguments}
    return offsets.get(parameter, call.offset)


def comparable(one: Treatment, other: Treatment) -> bool:
    """Whether the order of preference between two forms says something to the reader."""
    if isinstance(one, _ANYWHERE) or isinstance(other, _ANYWHERE):
        return True
    if isinstance(one, Bucket) and isinstance(other, Bucket):
        return one.nests(other)
    return one.kin == other.kin


def documentation() -> str:
    """The table of treatments in Markdown."""
    lines = [
        "| treatment | what is given | on | type given | deterministic | reversible |",
        "|---|---|---|---|---|---|",
    ]
    for kind in TABLE.values():
        on = "any type" if kind.accepts == frozenset(Type) else ", ".join(sorted(kind.accepts))
        lines.append(
            f"| `{_form(kind)}` | {kind.summary} | {on} | {kind.output} "
            f"| {_yes(kind.deterministic)} | {_yes(kind.reversible)} |"
        )
    lines += ["", "| parameter | of | meaning |", "|---|---|---|"]
    lines += [
        f"| `{parameter.name}` | `{kind.name}` | {parameter.summary} |"
        for kind in TABLE.values()
        for parameter in kind.parameters
    ]
    return "\n".join(lines) + "\n"


def by_type() -> str:
    """The table of the type that each treatment gives of each in Markdown."""
    lines = [
        f"| treatment | {' | '.join(f'of {type_}' for type_ in Type)} |",
        "|---" * (len(Type) + 1) + "|",
    ]
    escaped = r"\|"
    for example in _EXAMPLES:
        treatment = parse(example)
        given = (
            str(treatment.gives(type_) or "no value") if type_ in treatment.takes else "refused"
            for type_ in Type
        )
        lines.append(f"| `{example.replace('|', escaped)}` | {' | '.join(given)} |")
    return "\n".join(lines) + "\n"


_EXAMPLES: Final = (
    "clear", "suppress(5, by='city')", "round(100)", "round(0.05)", "bucket(0|100)",
    "bucket(0|0.5, as='lower')",    "bucket('2026-01-01')", "truncate('month')", "truncate('hour')",
    "shift(days=30, per='customer')", "partial(last=4)", "tokenise", "tokenise(alphabet='upper')",
    "pseudonym", "encrypt", "encrypt(deterministic='field')", "constant(0)", "constant('n/a')", "redact",
)  # fmt: skip
"""One or more of each treatment, for the table of types."""


def _value(parameter: Parameter, argument: Argument) -> Any:
    """What the literals of an argument mean.

    Raises ValueError with what is expected, or BadTreatment.
    """
    if parameter.many:
        return tuple(map(parameter.read, argument.literals))
    if len(argument.literals) > 1:
        hint = "take the others out"
        raise BadTreatment(argument.offsets[1], f"`{parameter.name}` takes one value", hint)
    return parameter.read(argument.literals[0])


def _named(kind: type[Treatment], argument: Argument) -> Parameter:
    names = {parameter.name: parameter for parameter in kind.parameters}
    if argument.name not in names:
        raise BadTreatment(
            argument.offset,
            f"`{kind.name}` has no parameter `{argument.name}`",
            _nearest(argument.name, names),
        )
    return names[argument.name]


def _next(kind: type[Treatment], parameter: Parameter | None, argument: Argument) -> Parameter:
    if parameter is not None:
        return parameter
    names = ", ".join(f"`{each.name}=`" for each in kind.parameters if not each.positional)
    hint = f"its arguments are named: {names}" if names else "take it out"
    if not kind.parameters:
        hint = f"write `{kind.name}`"
    raise BadTreatment(argument.offset, f"`{kind.name}` takes no further unnamed argument", hint)


def _nearest(name: str, names: Iterable[str]) -> str:
    known = list(names)
    near = get_close_matches(name.lower(), known, n=1)
    if near:
        return f"did you mean `{near[0]}`?"
    return "known: " + ", ".join(f"`{each}`" for each in known) if known else "it has none"


def _form(kind: type[Treatment]) -> str:
    shown = [each.name if each.positional else f"{each.name}=" for each in kind.parameters]
    return f"{kind.name}({', '.join(shown)})" if shown else kind.name


def _yes(answer: bool) -> str:  # noqa: FBT001 - a word for a Boolean
    return "yes" if answer else "no"
