"""Lints: lines and parameters that may tell more, or of somebody else, than their author thinks."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Final

from proxy.errors import Fault
from proxy.policy.index import Policy
from proxy.policy.lines import ANYONE, Action, CellRule
from proxy.report import Operator, Parameter, Report
from proxy.review.written import Written
from proxy.values import Type

_MOST_HOLDERS: Final = 64
"""Holders of a role that are looked at."""
_FEW_VALUES: Final = 32
"""Values among which equal stand-ins tell the value, by how often each occurs."""
_STAND_INS: Final = ("tokenise", "pseudonym")
_SENSITIVE: Final = ("confidential", "personal")


_TIMES: Final = frozenset({Type.DATE, Type.DATETIME})
_KINDS: Final = (_TIMES, frozenset({Type.INTEGER, Type.DECIMAL}), frozenset({Type.BOOLEAN}))
"""Types whose values compare with each other."""
_ALPHABETS: Final = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "FULLWIDTH", "MATHEMATICAL")
"""As names of characters begin."""


def broad(written: Written) -> Iterator[Fault]:
    """Sensitive fields in clear for everybody."""
    policy = written.policy
    for row in policy.cells:
        if row.principal != ANYONE or row.treatment is None or row.treatment.name != "clear":
            continue
        for report, named in row.fields.items():
            classes = {policy.report(report).fields[name].class_ for name in named}
            if sensitive := sorted(classes & {*_SENSITIVE}):
                which = ", ".join(f"@{name}" for name in sensitive)
                yield written.fault(
                    row.line, 4, f"gives {which} of `{report}` to everybody", "name a role instead"
                )
                break


def guessable(written: Written) -> Iterator[Fault]:
    """Pseudonyms and tokens over few values."""
    policy = written.policy
    for row in policy.cells:
        if row.treatment is None or row.treatment.name not in _STAND_INS:
            continue
        for report, named in row.fields.items():
            few = [(name, _few(policy.report(report), name)) for name in sorted(named)]
            found = next((each for each in few if each[1]), None)
            if found:
                yield written.fault(
                    row.line,
                    5,
                    f"`{row.treatment.name}` of `{found[0]}` hides nothing: {found[1]}",
                    "use `redact` or `constant`",
                )
                break


def mixed(written: Written) -> Iterator[Fault]:
    """Names with letters of two alphabets."""
    names = [(rule.line, 1, rule.principal) for rule in written.rules]
    names += [(link.line, 1, link.member) for link in written.links]
    names += [(link.line, 2, link.of) for link in written.links]
    for line, cell, name in names:
        bare = name.partition(":")[2]
        found = () if bare.isascii() else sorted({a for c in bare if (a := _alphabet(c))})
        if len(found) > 1:
            yield written.fault(
                line,
                cell,
                f"`{name}` mixes letters that look alike: {', '.join(found)}",
                "write it as tokens have it" if cell == 1 else "write it in one alphabet",
            )


def _alphabet(character: str) -> str:
    """The alphabet of a letter that another alphabet's may look like; '' for all else."""
    first = unicodedata.name(character, "").partition(" ")[0] if character.isalpha() else ""
    return first.capitalize() if first in _ALPHABETS else ""


def _few(report: Report, field: str) -> str:
    """Why a field has few values, by its type or a parameter's `allowed`; '' where it may have many."""
    if report.fields[field].type is Type.BOOLEAN:
        return "it has two values"
    for parameter in report.parameters.values():
        listed = parameter.fields == (field,) and parameter.operator in (Operator.EQ, Operator.IN)
        if listed and 0 < len(parameter.allowed) <= _FEW_VALUES:
            return f"parameter `{parameter.name}` lists its {len(parameter.allowed)} values"
    return ""


def probeable(written: Written) -> Iterator[Fault]:
    """Forms of fields at which a parameter looks."""
    policy = written.policy
    for row in policy.cells:
        if row.treatment is None or row.treatment.name == "clear":
            continue
        looking = [
            (report, parameter.name, name)
            for report, named in row.fields.items()
            for parameter in policy.report(report).parameters.values()
            for name in sorted(named & parameter.looks_at)
        ]
        found = (
            (whom, *each) for each in looking for whom in _masked(policy, row, each[0], each[2])
        )
        for whom, report, parameter, name in found:
            yield written.fault(
                row.line,
                5,
                f"`{whom}` sees no `{name}` in clear, at which `{parameter}` of `{report}` looks",
                "the request is refused (403); `counterfoil policy explain` shows which are not",
            )
            break


def _masked(policy: Policy, row: CellRule, report: str, field: str) -> Iterator[str]:
    """Who of a line's own sees a field in some form, but nowhere in clear, by all that they hold."""
    holders = sorted(policy.holders(row.principal)) if row.principal != ANYONE else []
    for whom in holders[:_MOST_HOLDERS] or [row.principal]:
        plan = policy.alone([whom], report, Action.READ).plan
        columns = plan.columns if plan is not None else ()
        forms = [c.treatment.name for k in columns if k.field.name == field for c in k.choices]
        if forms and "clear" not in forms:
            yield row.principal


def unbound(written: Written) -> Iterator[Fault]:
    """Filters of which nothing says at which field the store looks."""
    for report, parameter in written.parameters:
        if not parameter.fields and not parameter.allowed:
            yield written.fault_of_parameter(
                report.id,
                parameter.name,
                f"no field is named at which `{parameter.name}` looks: whoever may read may use it",
                "name its `field`; where it selects nothing, list its values in `allowed`",
            )


def mismatched(written: Written) -> Iterator[Fault]:
    """Filters whose values do not compare with what their fields hold."""
    for report, parameter in written.parameters:
        for name in parameter.fields:
            type_ = report.types[name]
            if _compares(parameter, type_):
                continue
            what = (
                f"`{parameter.operator}` looks for a part of a text"
                if parameter.type is Type.TEXT
                else f"`{parameter.name}` is of type {parameter.type}"
            )
            yield written.fault_of_parameter(
                report.id,
                parameter.name,
                f"{what}, and `{name}` holds values of type {type_}",
                "see its `type`, `field` and `operator`",
            )


def _compares(parameter: Parameter, type_: Type) -> bool:
    """Whether a filter's value may say something of a field's; of a text nobody knows what it writes."""
    if parameter.type is Type.TEXT:
        part = parameter.operator in (Operator.STARTS, Operator.CONTAINS)
        return not part or type_ in (Type.TEXT, *_TIMES)
    return type_ is Type.TEXT or any({parameter.type, type_} <= kind for kind in _KINDS)
