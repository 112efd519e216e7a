"""Grants and lockdowns as policy lines, and the blocks of lines in grants.csv and lockdown.csv.

A block is what one command wrote, with who asked for it, why, and until when; its id is that of the
event in the access log. Blocks are separated by blank lines, and lines outside of blocks are left alone:

    # 0193a2…  grant of role:analyst on sales/store-daily to user:alice until 2026-11-24T15:00:00Z
    # by user:ada at 2026-11-24T13:00:00Z: covers for bob
    p,  user:'alice', sales/store-daily, read, env.now < time('2026-11-24T15:00:00Z'), allow
    p2, user:'alice', sales/store-daily, env.now < time('2026-11-24T15:00:00Z'), date|sku, clear

A grant gives exactly what the role's own lines give, when they give it, and takes no cell from anyone:
it has no deny lines. What the role's deny lines hide is left out of the grant's conditions instead. A
block whose time is over counts for nothing (`index.Slice.plan_at`); the next command takes it out.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from proxy.policy import grammar
from proxy.policy.index import Policy
from proxy.policy.lines import ANYONE, AccessRule, Action, CellRule, Effect
from proxy.stated import plain
from proxy.values import instant

GRANTS_FILE: Final = "grants.csv"
LOCKDOWN_FILE: Final = "lockdown.csv"

_HEADER: Final = re.compile(
    r"# ([0-9a-f]{32})  (?:grant|lockdown) of (?:\S+ on )?(\S+)(?: to .*?)?(?: until (\S+))?\Z"
)
_LOCKED: Final = (Action.READ, Action.REVEAL, Action.DOWNLOAD)
"""What a lockdown denies: all that gives something. `act` gives nothing, and who lifts it may need it."""


class NothingToGrant(Exception):
    """The role gives nothing on the report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """What one command wrote."""

    id: str
    report: str
    """The report of a grant, the pattern of a lockdown."""
    until: datetime | None
    text: str
    """All of its lines, each with its end."""


def grant(
    policy: Policy,
    *,
    id_: str,
    to: str,
    report: str,
    role: str,
    by: str,
    reason: str,
    now: datetime,
    until: datetime,
) -> Block:
    """The lines that give principal `to`, until then, what `role` gives on the report.

    Raises NothingToGrant.
    """
    lines = list(_as_role(policy, to, report, role, until))
    head = f"# {id_}  grant of {role} on {report} to {plain(to)} until {second(until)}"
    return _block(id_, report, until, head, by=by, reason=reason, now=now, lines=lines)


def lockdown(*, id_: str, pattern: str, by: str, reason: str, now: datetime) -> Block:
    """The lines that refuse everybody every use of the reports that `pattern` covers."""
    lines = [f"p,  {ANYONE}, {pattern}, {action}, true, deny" for action in _LOCKED]
    head = f"# {id_}  lockdown of {pattern}"
    return _block(id_, pattern, None, head, by=by, reason=reason, now=now, lines=lines)


def _block(
    id_: str,
    report: str,
    until: datetime | None,
    head: str,
    *,
    by: str,
    reason: str,
    now: datetime,
    lines: Iterable[str],
) -> Block:
    why = f"# by {plain(by)} at {second(now)}: {plain(reason)}"
    text = "".join(f"{line}\n" for line in (head, why, *lines))
    return Block(id=id_, report=report, until=until, text=text)


# ── a role's lines, for one principal and a time ──


def _as_role(policy: Policy, to: str, report: str, role: str, until: datetime) -> Iterator[str]:
    access, cells = _lines_of(policy, report, role)
    allows = [rule.when.text for rule in access if rule.effect is Effect.ALLOW]
    denies = [rule.when.text for rule in access if rule.effect is Effect.DENY]
    in_time = f"env.now < time('{second(until)}')"
    given = "true" if "true" in allows else " or ".join(f"({text})" for text in _distinct(allows))
    when = _all_of([in_time, given], denies)
    rules = list(_cell_lines(cells, report, in_time, given, denies))
    if not allows or not rules or "true" in denies:
        raise NothingToGrant
    who = quoted(to)
    yield f"p,  {who}, {report}, {Action.READ}, {when}, {Effect.ALLOW}"
    for rows, fields, treatment in rules:
        yield f"p2, {who}, {report}, {rows}, {fields}, {treatment}"


def attributes(policy: Policy, report: str, role: str) -> frozenset[str]:
    """The names of `sub.*` on which it depends what `role` gives on the report."""
    access, cells = _lines_of(policy, report, role)
    conditions = [*(rule.when for rule in access), *(rule.rows[report] for rule in cells)]
    return frozenset().union(*(condition.attributes for condition in conditions))


def _lines_of(policy: Policy, report: str, role: str) -> tuple[list[AccessRule], list[CellRule]]:
    """The lines by which a role, and what it holds, reads the report."""
    roles, names = policy.roles(role), policy.covering(report)
    access = [
        rule
        for rule in policy.access
        if rule.principal in roles and rule.report in names and rule.action is Action.READ
    ]
    cells = [rule for rule in policy.cells if rule.principal in roles and rule.report in names]
    return access, cells


def _cell_lines(
    cells: Sequence[CellRule], report: str, in_time: str, given: str, denies: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    """Rows, fields and form of each line; fields that the same denials hide share one.

    The role's `when` is repeated for the rows: a grant that the principal holds otherwise must not
    open the cells when the role would not.
    """
    hiding = [rule for rule in cells if rule.treatment is None]
    for rule in cells:
        if rule.treatment is None:
            continue
        alike: dict[tuple[str, ...], list[str]] = {}
        for field in sorted(rule.fields[report]):
            hidden = [h.rows[report].text for h in hiding if field in h.fields[report]]
            alike.setdefault(tuple(_distinct(hidden)), []).append(field)
        for hidden_, fields in alike.items():
            if "true" not in hidden_:
                rows = _all_of([in_time, given, rule.rows[report].text], [*denies, *hidden_])
                yield rows, "|".join(fields), str(rule.treatment)


def _all_of(true: Iterable[str], false: Iterable[str]) -> str:
    """The condition that all of `true` hold and none of `false`; unknown is as good as not."""
    terms = [f"({text})" for text in _distinct(true) if text != "true"]
    terms += [f"not ({text})" for text in _distinct(false) if text != "false"]
    return " and ".join(terms)


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


# ── files of blocks ──


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a file, in its order."""
    for part in parts(text):
        matched = _HEADER.match(part.partition("\n")[0])
        if matched is not None:
            until = instant(matched[3]) if matched[3] else None
            yield Block(id=matched[1], report=matched[2], until=until, text=part)


def ids(content: bytes) -> set[str]:
    """The ids of a file's blocks."""
    return {block.id for block in blocks(content.decode())}


def without_ended(text: str, *, now: datetime) -> str:
    """The file with blank lines for the blocks whose time is over; each other line is where it was."""
    lines = text.split("\n")
    for block, places in _placed(text):
        if block.until is not None and block.until <= now:
            lines[places.start : places.stop] = [""] * len(places)
    return "\n".join(lines)


def block_at(text: str, line: int) -> Block | None:
    """The block that a line, counted from 1, is in."""
    return next((block for block, places in _placed(text) if line - 1 in places), None)


def _placed(text: str) -> Iterator[tuple[Block, range]]:
    """The blocks, and the numbers from 0 of the lines of each."""
    lines = text.split("\n")
    for blank, numbers in itertools.groupby(range(len(lines)), lambda n: not lines[n].strip()):
        places = [*numbers]
        part = "".join(f"{lines[number]}\n" for number in places)
        for block in () if blank else blocks(part):
            yield block, range(places[0], places[-1] + 1)


def with_block(text: str, block: Block, *, now: datetime) -> str:
    """The file with one block more, and without those whose time is over."""
    return _written([*_kept(text, now, without=""), block.text])


def without_block(text: str, id_: str, *, now: datetime) -> str:
    """The file without one block, and without those whose time is over."""
    return _written(_kept(text, now, without=id_))


def _kept(text: str, now: datetime, *, without: str) -> list[str]:
    gone = {
        block.text
        for block in blocks(text)
        if block.id == without or (block.until is not None and block.until <= now)
    }
    return [part for part in parts(text) if part not in gone]


def parts(text: str) -> list[str]:
    """What stands between blank lines, each line with its end."""
    parts = re.split(r"\n[ \t]*\n\s*", text.strip("\n"))
    return [f"{part}\n" for part in parts if part.strip()]


def _written(parts: Iterable[str]) -> str:
    return "\n".join(parts)


# ── texts ──


def unwritable(principal: str) -> bool:
    """Whether a policy line cannot write the principal's name, for it is not what it looks like."""
    try:
        grammar.principal(quoted(principal))
    except grammar.Wrong:
        return True
    return not principal.isprintable()


def quoted(principal: str) -> str:
    """A principal as a policy line writes it, whatever its name holds."""
    kind, _, name = principal.partition(":")
    doubled = name.replace("'", "''")
    return f"{kind}:'{doubled}'"


def second(at: datetime) -> str:
    """An instant as conditions and events write it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
