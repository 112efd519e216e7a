"""What somebody gains or loses who is several things at once, and who is none of them by itself.

A deny on a role that allows nothing takes from those alone who hold another role too; cells may be one
role's and access another's; what people.csv says of a user matters by the lines of its roles. So the
solver is asked about every requester at once: is there a set of principals, a row, and circumstances, in
which a cell turns, and for no smaller set that was told of? Each set that it finds is made as small as it
can be, compared by itself, and told of, until there is none: then it is proved.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from proxy.policy.lines import ANYONE, GIVES_CELLS, Action, Effect
from proxy.review import formulas as logic
from proxy.review.about import About
from proxy.review.cells import ABSENT
from proxy.review.changes import Change, Turn
from proxy.review.facts import Unmodelled
from proxy.review.formulas import Formula
from proxy.review.pairs import Certain, Cover, Pair, Scale
from proxy.review.sides import (
    ALWAYS,
    ANY_TOOL,
    MAY,
    Span,
    Who,
    is_tool,
    may_claim_groups,
    scopes,
)
from proxy.review.solver import Assignment, Undecided

_MOST: Final = 20
"""Sets of principals that are told of one report and action: who reads of more knows enough."""
_GROUP: Final = "group:"
"""A group of which no line speaks."""
_THROUGH: Final = "through a tool"


def questions(about: About, everybody: Iterable[Who]) -> Iterator[Together]:
    """Everybody at once; then each user of whom that does not tell all."""
    if about.differs:
        yield Together(about)
    exclusive = frozenset(about.exclusive())
    for who in everybody:
        (name,) = who.names
        if not name.startswith("user:"):
            continue
        held = frozenset().union(*(lines.known(who)[0] for lines in about.lines))
        several = name in about.named | about.moved or len(held & exclusive) > 1
        if (about.differs and several) or about.tells_otherwise(who):
            yield Together(about, name, who.span)


class Together:
    """Everybody, or one user with whatever else it is, asked about at once."""

    def __init__(self, about: About, user: str | None = None, span: Span = ALWAYS) -> None:
        """Without a user: what any groups and roles are together."""
        self._about = about
        self._question = about.question
        self._solver = about.question.solver()
        self._user, self._span = user, span
        alone = Who(names=(user,) if user else (), span=span)
        claiming = Who(names=(*alone.names, _GROUP), span=span)
        self._alone = [lines.known(alone)[0] for lines in about.lines]
        """What it is where its token names no group, then and now."""
        self._always = [lines.known(claiming)[0] for lines in about.lines]
        """What it is whatever its token says."""
        then, now = (lines.known(alone)[1] for lines in about.lines)
        self._fixed: Certain = (then, now)
        snapshots = (about.question.old, about.question.new)
        self._scopes = [
            scopes(each, rules.report) for each, rules in zip(snapshots, about.rules, strict=True)
        ]
        claims = user is None or any(may_claim_groups(each, user, span) for each in snapshots)
        self._exclusive = about.exclusive() if user is None else []
        free = [
            role
            for role in about.parts("role:")
            if "group" in about.kinds(role) or (user is None and not about.kinds(role))
        ]
        self._parts = [*about.parts("group:"), *free, *self._exclusive] if claims else []
        self._tools = about.tools()
        # What the questions have in common is written down once.
        self._turned = functools.cache(self._written_turned)
        self._has_it = functools.cache(self._written_has_it)
        self._permits = functools.cache(self._written_permits)
        self._possible = functools.cache(lambda: logic.every(*self._written_possible()))
        self._holds = functools.cache(self._written_holds)
        self.uncompared: list[str] = []
        """Of whom, and of what, it could not be told."""

    def changes(self, covers: list[Cover]) -> Iterator[Change]:
        """Every change that is none of `covers`, to which those are added who have it."""
        known = [each for each in covers if self._is_about(each.pair.who)]
        found: list[Cover] = []
        for fields, turn in itertools.product(self._alike(), Turn):
            try:
                while (who := self._find(fields[0], turn, (*known, *found))) is not None:
                    if len(found) == _MOST:
                        self._note(fields)
                        break
                    found.append(Cover(pair=Pair(self._question, who)))
            except (Undecided, Unmodelled):
                self._note(fields)
        covers += found
        # Told only now: somebody who is less may have been found after somebody who is more.
        for number, each in enumerate(found):
            less = (*known, *found[:number], *found[number + 1 :])
            who = each.pair.who
            inside = [other for other in less if self._is_inside(other, who)]
            yield from map(self._led, Pair(self._question, who, inside).changes())

    def _is_about(self, who: Who) -> bool:
        """Whether somebody can be both that and what is asked about here."""
        user = next((name for name in who.names if name.startswith("user:")), None)
        return user is None or (user == self._user and who.span == self._span)

    def _alike(self) -> Iterator[list[str]]:
        """The fields about which something may be not the same, those together that lines treat alike."""
        if self._question.action not in GIVES_CELLS:
            yield [MAY]
            return
        old, new = self._about.rules
        all_of_them = self._user is not None or self._about.concerns_all
        grouped: dict[object, list[str]] = {}
        for field in dict.fromkeys((*new.fields, *old.fields)):
            said = (old.of(field), new.of(field))
            if all_of_them or said[0] != said[1]:
                grouped.setdefault(said, []).append(field)
        yield from grouped.values()

    def _note(self, fields: Sequence[str]) -> None:
        whose = (
            f"{self._user} with what else it is" if self._user else "some roles and groups together"
        )
        what = "" if fields == [MAY] else f" ({', '.join(fields)})"
        told = f"{whose}, {self._question.action} on {self._question.report}{what}"
        if told not in self.uncompared:
            self.uncompared.append(told)

    def _led(self, change: Change) -> Change:
        """The same, with what is no more what it was in the first place."""
        about = self._about
        names = (change.principal, *change.also)
        same = [each == self._user or each in about.changed | about.moved for each in names]
        first, *others = [n for _, n in sorted(zip([not s for s in same], names, strict=True))]
        return replace(change, principal=first, also=tuple(others))

    # ── one set of principals ──

    def _find(self, field: str, turn: Turn, covers: Sequence[Cover]) -> Who | None:
        """Somebody whose cell turns, for none of `covers`; as little as it takes."""
        told = [self._has_it(each, field, turn) for each in covers]
        formula = logic.every(self._turned(field, turn), logic.no(*told), self._possible())

        def right(at: Assignment) -> bool:
            who = self._who(at)
            pair = Pair(self._question, who, [c for c in covers if self._is_inside(c, who)])
            return pair.turns(at, field, turn) and not pair.covered(at, field, turn)

        at = self._solver.find(formula, right)
        return None if at is None else self._least(at, field, turn)

    def _who(self, at: Assignment) -> Who:
        names = [self._user] if self._user else []
        names += [name for name in self._parts if name in at.members]
        tool = next((name for name in self._tools if name in at.members), ANY_TOOL)
        return Who(
            names=tuple(names) or (ANYONE,),
            tool=tool if _THROUGH in at.members else None,
            span=self._span,
        )

    def _least(self, at: Assignment, field: str, turn: Turn) -> Who:
        """The same without whatever is not needed for it, and a role rather than who holds it."""
        who = self._who(at)

        def needs_no_more(smaller: Who) -> bool:
            return Pair(self._question, smaller).turns(at, field, turn)

        for name in sorted(who.names):
            rest = tuple([each for each in who.names if each != name])
            smaller = replace(who, names=rest or (ANYONE,))
            if name != self._user and needs_no_more(smaller):
                who = smaller
        for tool in (None, ANY_TOOL) if who.tool else ():
            if needs_no_more(replace(who, tool=tool)):
                who = replace(who, tool=tool)
                break
        for name in who.names:
            for role in self._within(name):
                rest = tuple([role if each == name else each for each in who.names])
                if needs_no_more(replace(who, names=rest)):
                    who = replace(who, names=rest)
                    break
        return who

    def _within(self, name: str) -> list[str]:
        """The roles that a group or role holds in both versions, those first that hold least."""
        if name in (self._user, ANYONE):
            return []
        old, new = (lines.roles(name) for lines in self._about.lines)
        roles = [each for each in old & new if each in self._parts and each != name]
        return sorted(roles, key=lambda each: (len(self._about.lines[1].roles(each)), each))

    def _is_inside(self, cover: Cover, who: Who) -> bool:
        """Whether `who` is what the cover is, in both versions."""
        asked = cover.pair.who
        if who.tool is None and (cover.is_of_tool or asked.tool is not None):
            return False
        if asked.tool not in (None, ANY_TOOL, who.tool):
            return False
        own = Who(names=(who.tool,)) if cover.is_of_tool and who.tool else who
        return all(lines.known(own)[0].issuperset(asked.names) for lines in self._about.lines)

    # ── as formulas ──

    def _written_possible(self) -> Iterator[Formula]:
        """What is true of every requester."""
        member, through = self._solver.member, self._solver.member(_THROUGH)
        when = self._scopes[1][0]
        yield logic.one_at_most(*map(member, self._exclusive))
        yield logic.one_at_most(*map(member, self._tools))
        for tool in self._tools:
            yield logic.some(logic.no(member(tool)), through)
        if self._span != ALWAYS:
            yield self._solver.truth(self._span.text, when).true
        if any("tool" in rules.reads for rules in self._about.rules):
            named = [
                logic.every(member(tool), self._solver.truth(is_tool(tool), when).true)
                for tool in self._tools
            ]
            none = self._solver.truth("env.tool == ''", when)
            other = logic.every(through, none.false, logic.no(*map(member, self._tools)))
            yield logic.some(*named, other, logic.every(logic.no(through), none.true))

    def _written_turned(self, field: str, turn: Turn) -> Formula:
        """When the requester's cell turns this way."""
        return self._scale(field).turned([self._forms(version, field) for version in (0, 1)], turn)

    def _written_has_it(self, cover: Cover, field: str, turn: Turn) -> Formula:
        """Whether the requester is what the cover is, whose cell turns this way."""
        turned = cover.turned(self._solver, field, turn, self._fixed)
        return logic.every(self._is(cover), turned)

    def _is(self, cover: Cover) -> Formula:
        """Whether the requester is what the cover is, in both versions."""
        asked, holds = cover.pair.who, self._lends if cover.is_of_tool else self._holds
        parts = [holds(version, name) for version in (0, 1) for name in asked.names]
        if asked.tool is not None:
            parts.append(self._solver.member(_THROUGH if asked.tool == ANY_TOOL else asked.tool))
        return logic.every(*parts)

    def _written_holds(self, version: int, name: str) -> Formula:
        """Whether the user is a principal."""
        if name in self._always[version]:
            return logic.TRUE
        lines, member = self._about.lines[version], self._solver.member
        having = [member(each) for each in self._parts if name in lines.roles(each)]
        if name in self._alone[version]:
            having.append(logic.no(*map(member, self._parts)))
        return logic.some(*having)

    def _lends(self, version: int, name: str) -> Formula:
        """Whether the tool through which it asks is."""
        lines, member = self._about.lines[version], self._solver.member
        if name == ANYONE:
            return member(_THROUGH)
        return logic.some(*(member(each) for each in self._tools if name in lines.roles(each)))

    def _written_permits(self, version: int) -> Formula:
        """When a version's access rules allow it."""
        through = self._solver.member(_THROUGH)
        acts = self._ruling(version, Action.ACT)
        return logic.every(
            self._ruling(version, self._question.action), logic.some(logic.no(through), acts)
        )

    def _ruling(self, version: int, action: str) -> Formula:
        """When an action is allowed: to the user, or to act to the tool."""
        allowed, denied = [], []
        for rule in self._about.rules[version].access:
            if rule.action != action:
                continue
            truth = self._solver.truth(
                rule.when.text, self._scopes[version][0], self._fixed[version]
            )
            if rule.effect is Effect.DENY:
                denied.append(
                    logic.every(self._denied(version, rule.principal), logic.no(truth.false))
                )
            else:
                lends = action == Action.ACT
                holds = (self._lends if lends else self._holds)(version, rule.principal)
                allowed.append(logic.every(holds, truth.true))
        return logic.every(logic.some(*allowed), logic.no(*denied))

    def _denied(self, version: int, principal: str) -> Formula:
        """Whether a line that denies something to a principal is about the requester."""
        return logic.some(self._holds(version, principal), self._lends(version, principal))

    def _forms(self, version: int, field: str) -> dict[str, Formula]:
        """When the requester is given each form of the field in a version, or none."""
        permitted = self._permits(version)
        found = {MAY: permitted} if field == MAY else {}
        rules, rows = self._about.rules[version], self._scopes[version][1]
        hidden: list[Formula] = []
        for row in rules.denying(field):
            truth = self._solver.truth(rules.rows(row), rows, self._fixed[version])
            hidden.append(logic.every(self._denied(version, row.principal), logic.no(truth.false)))
        free, earlier = logic.every(permitted, logic.no(*hidden)), logic.FALSE
        for row in rules.giving(field):
            truth = self._solver.truth(rules.rows(row), rows, self._fixed[version])
            fires = logic.every(self._holds(version, row.principal), truth.true)
            given = logic.every(free, fires, logic.no(earlier))
            earlier = logic.some(earlier, fires)
            form = str(row.treatment)
            found[form] = logic.some(found[form], given) if form in found else given
        return {**found, ABSENT: logic.no(*found.values())}

    def _scale(self, field: str) -> Scale:
        old, new = self._about.rules
        rows = (*old.giving(field), *new.giving(field))
        return Scale(new.report or old.report, [row.treatment for row in rows if row.treatment])
