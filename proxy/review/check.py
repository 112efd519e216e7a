"""What is wrong with a folder of policies, and what is odd about it: faults and warnings.

A fault keeps the policy from being taken. A warning does not: the line means what it says, but
hardly what its writer thinks. Of the lines that the server itself writes nobody is warned: while a
lockdown lasts, every line is undone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, NamedTuple

from proxy.errors import Fault, Faulty
from proxy.plan import Context, Line
from proxy.policy.conditions import Condition
from proxy.policy.index import Policy
from proxy.policy.lines import ANYONE, AccessRule, Action, CellRule, Effect
from proxy.policy.source import RULE_FILES
from proxy.policy.syntax import read
from proxy.report import Operator, Report
from proxy.review.proofs import Prover
from proxy.review.specification import as_written, failures
from proxy.snapshot import Snapshot, snapshot_of
from proxy.values import Type

_ANY: Final = Context(
    attributes={},
    now=datetime(2000, 1, 1, tzinfo=UTC),
    date=date(2000, 1, 1),
    ip="",
    purpose="",
    tool="",
    action="",
    method="",
)
"""For conditions that look at none of it."""
_MOST_HOLDERS: Final = 64
"""Holders of a role that are looked at."""
_FEW_VALUES: Final = 32
"""Values among which equal pseudonyms tell the value, by how often each occurs."""
_SENSITIVE: Final = ("confidential", "personal")


@dataclass(frozen=True, kw_only=True, slots=True)
class Warned:
    """One oddity, with the slug of its kind in `LINT`."""

    kind: str
    fault: Fault


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What a folder's files say: a snapshot, or faults; warnings only where there is a snapshot."""

    snapshot: Snapshot | None
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Warned, ...] = ()


def check(files: Mapping[str, bytes]) -> Checked:
    """Read the policy files' contents as the server would, without keys and credentials."""
    try:
        snapshot = snapshot_of(files)
    except Faulty as exc:
        return Checked(snapshot=None, faults=exc.faults)
    # The server takes no policy that its own tests.yaml contradicts: neither may a check.
    try:
        missed = failures(snapshot, files)
    except Faulty as exc:
        missed = list(exc.faults)
    if missed:
        return Checked(snapshot=None, faults=tuple(sorted(missed)))
    try:
        written = as_written(snapshot, files)
    except Faulty:
        written = snapshot  # the server's own lines alone make it a policy
    places = {
        Line(file=record.file, line=record.line): record.column
        for name in RULE_FILES
        if name in files
        for record in read(name, files[name])[0]
    }
    seen = _Seen(written.policy, Prover(written))
    warnings = [
        Warned(
            kind=kind,
            fault=Fault(
                file=said.line.file,
                line=said.line.line,
                column=places[said.line](said.cell),
                message=said.message,
                hint=said.hint,
            ),
        )
        for kind, row in LINT.items()
        for said in row.look(seen)
    ]
    return Checked(
        snapshot=snapshot,
        warnings=tuple(sorted(warnings, key=lambda each: (each.fault, each.kind))),
    )


class _Said(NamedTuple):
    line: Line
    cell: int
    message: str
    hint: str


class _Seen(NamedTuple):
    policy: Policy
    prover: Prover


class Lint(NamedTuple):
    """One row of the table of warnings."""

    why: str
    """What comes of it, for the documentation."""
    look: Callable[[_Seen], Iterator[_Said]]


Rule = AccessRule | CellRule


def _rules(policy: Policy) -> Iterator[Rule]:
    yield from policy.access
    yield from policy.cells


def _unheld(seen: _Seen) -> Iterator[_Said]:
    policy = seen.policy
    held = {name: bool(policy.holders(name)) for name in {r.principal for r in _rules(policy)}}
    for rule in _rules(policy):
        if rule.principal.startswith("role:") and not held[rule.principal]:
            yield _Said(
                rule.line,
                1,
                f"nobody holds `{rule.principal}`",
                f"give it to somebody: `g, group:…, {rule.principal}`",
            )


def _is_false(condition: Condition) -> bool:
    """Whether a condition looks at nothing, and does not hold."""
    return not condition.types and not condition.reads and condition.holds(_ANY) is not True


def _never(seen: _Seen) -> Iterator[_Said]:
    policy = seen.policy
    for rule in policy.access:
        if _is_false(rule.when):
            yield _Said(rule.line, 4, "never applies: the condition is false", "take the line out")
    for row in policy.cells:
        if row.rows and all(map(_is_false, row.rows.values())):
            yield _Said(row.line, 3, "never applies: the condition is false", "take the line out")


def _twice(seen: _Seen) -> Iterator[_Said]:
    policy = seen.policy
    said: dict[object, Line] = {}
    for rule in _rules(policy):
        key: object
        if isinstance(rule, AccessRule):
            key = (rule.principal, rule.report, rule.action, rule.when.text, rule.effect)
        else:
            rows = tuple((report, rows.text) for report, rows in sorted(rule.rows.items()))
            fields = tuple(sorted(rule.fields.items()))
            key = (rule.principal, rule.report, rows, fields, rule.treatment)
        first = said.setdefault(key, rule.line)
        if first != rule.line:
            yield _Said(rule.line, 0, f"says what {first} says", "take one of them out")


def _shadowed(seen: _Seen) -> Iterator[_Said]:
    policy = seen.policy
    denials = [rule for rule in policy.cells if rule.treatment is None]
    refusals = [
        rule for rule in policy.access if rule.effect is Effect.DENY and rule.when.text == "true"
    ]
    for row in policy.cells:
        for deny in denials if row.treatment is not None else ():
            if deny.principal in (row.principal, ANYONE) and all(
                report in deny.rows
                and deny.rows[report].text == "true"
                and named <= deny.fields[report]
                for report, named in row.fields.items()
            ):
                yield _Said(row.line, 4, f"hidden by {deny.line}", "a deny wins: take one out")
                break
    for rule in policy.access:
        for refusal in refusals if rule.effect is Effect.ALLOW else ():
            if (
                refusal.principal in (rule.principal, ANYONE)
                and refusal.action == rule.action
                and refusal.report in (rule.report, *_above(rule.report))
            ):
                yield _Said(rule.line, 2, f"undone by {refusal.line}", "a deny wins: take one out")
                break


def _above(report: str) -> tuple[str, ...]:
    parts = report.removesuffix("/*").split("/")
    return tuple("/".join(parts[:n]) + "/*" for n in range(1, len(parts)))


def _unreadable(seen: _Seen) -> Iterator[_Said]:
    policy = seen.policy
    readable = {
        rule.report
        for rule in policy.access
        if rule.effect is Effect.ALLOW and rule.action is Action.READ
    }
    for row in policy.cells:
        if row.fields and not any(policy.covering(report) & readable for report in row.fields):
            yield _Said(
                row.line,
                2,
                "no `p` line lets anybody read what this line is about",
                f"add `p, {row.principal}, {row.report}, read, true, allow`",
            )


def _broad(seen: _Seen) -> Iterator[_Said]:
    policy = seen.policy
    for row in policy.cells:
        if row.principal != ANYONE or row.treatment is None or row.treatment.name != "clear":
            continue
        for report, named in row.fields.items():
            classes = {policy.report(report).fields[name].class_ for name in named}
            if sensitive := sorted(classes & {*_SENSITIVE}):
                which = ", ".join(f"@{name}" for name in sensitive)
                yield _Said(
                    row.line, 4, f"gives {which} of `{report}` to everybody", "name a role instead"
                )
                break


def _guessable(seen: _Seen) -> Iterator[_Said]:
    policy = seen.policy
    for row in policy.cells:
        if row.treatment is None or row.treatment.name != "pseudonym":
            continue
        for report, named in row.fields.items():
            few = [(name, _few(policy.report(report), name)) for name in sorted(named)]
            found = next((each for each in few if each[1]), None)
            if found:
                yield _Said(
                    row.line,
                    5,
                    f"a pseudonym of `{found[0]}` hides nothing: {found[1]}",
                    "use `redact` or `constant`",
                )
                break


def _mixed(seen: _Seen) -> Iterator[_Said]:
    for rule in _rules(seen.policy):
        name = rule.principal.partition(":")[2]
        found = () if name.isascii() else sorted({a for c in name if (a := _alphabet(c))})
        if len(found) > 1:
            yield _Said(
                rule.line,
                1,
                f"`{rule.principal}` mixes letters that look alike: {', '.join(found)}",
                "write it as tokens have it",
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


def _probeable(seen: _Seen) -> Iterator[_Said]:
    policy = seen.policy
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
            yield _Said(
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


def _contradictory(seen: _Seen) -> Iterator[_Said]:
    policy, prover = seen
    message, hint = "never applies: the condition contradicts itself", "see its `and`s"
    for rule in policy.access:
        if not _is_false(rule.when) and prover.refutes(None, rule.when.text, rule.effect):
            yield _Said(rule.line, 4, message, hint)
    for row in policy.cells:
        effect = Effect.DENY if row.treatment is None else Effect.ALLOW
        open_ = {report: rows for report, rows in row.rows.items() if not _is_false(rows)}
        if open_ and all(
            prover.refutes(report, rows.text, effect) for report, rows in open_.items()
        ):
            yield _Said(row.line, 3, message, hint)


def _hidden(seen: _Seen) -> Iterator[_Said]:
    prover, cells = seen.prover, seen.policy.cells
    denials = [
        row
        for row in cells
        if row.treatment is None and {r.text for r in row.rows.values()} - {"true"}
    ]
    for row in cells if denials else ():
        if row.treatment is None:
            continue
        for deny in denials:
            if deny.principal in (row.principal, ANYONE) and all(
                report in deny.rows
                and named <= deny.fields[report]
                and prover.hides(report, deny.rows[report].text, row.rows[report].text)
                for report, named in row.fields.items()
            ):
                yield _Said(
                    row.line,
                    4,
                    f"hidden by {deny.line} in each of its rows",
                    "a deny wins: take one out",
                )
                break


_ALPHABETS: Final = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "FULLWIDTH", "MATHEMATICAL")
"""As names of characters begin."""

LINT: Final[Mapping[str, Lint]] = {
    "role-unheld": Lint("The lines of a role that nobody holds grant and deny nothing.", _unheld),
    "never-applies": Lint("A line whose condition is false does nothing.", _never),
    "said-twice": Lint(
        "Of two equal lines one will be forgotten when the other is changed.", _twice
    ),
    "shadowed": Lint("A deny wins over every allow, so the line gives nothing.", _shadowed),
    "nobody-reads": Lint("Cells are given only to those who may read the report.", _unreadable),
    "given-to-anyone": Lint(
        "Whoever has a valid token sees confidential or personal fields in clear.", _broad
    ),
    "contradiction": Lint(
        "No row and no requester meets the condition, so the line does nothing. (Needs the extra `review`.)",
        _contradictory,
    ),
    "hidden": Lint(
        "A deny line applies wherever this one does, so it gives nothing. (Needs the extra `review`.)",
        _hidden,
    ),
    "guessable": Lint(
        "Equal values have equal pseudonyms: over the few values of a type, or of a parameter's `allowed`, "
        "they hide nothing.",
        _guessable,
    ),
    "probeable": Lint(
        "A parameter would tell of what the form hides, so whoever sees nothing else may not use it (403).",
        _probeable,
    ),
    "mixed-letters": Lint(
        "A name with letters of two alphabets may not be the one that it looks like, and a deny be lost.",
        _mixed,
    ),
}
"""Kind of warning -> why it matters, and how it is found."""
