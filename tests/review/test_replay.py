"""Replay agrees with brute force: each access decided by the reference, then and now."""

from __future__ import annotations

import dataclasses
from collections import Counter
from datetime import UTC, datetime

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.audit import Past
from proxy.policy.rules import MODEL
from proxy.review.replay import Replay
from proxy.review.replayed import Kind
from proxy.snapshot import snapshot_of
from tests.reference import documents
from tests.reference.evaluator import evaluate, permitted
from tests.reference.nouns import ATTRIBUTES
from tests.reference.worlds import (
    SEEDS,
    covering,
    more_of,
    policy_text,
    reports_text,
    world_of,
)  # fmt: skip

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def subjects(source: str) -> str:
    claim = "" if source == "people" else ", claim: {0}"
    attributes = "".join(
        f"      {name}: {{type: {type_}, many: {str(many).lower()}, source: {source}{claim.format(name)}}}\n"
        for name, (type_, many) in ATTRIBUTES.items()
    )
    return (
        "issuers:\n"
        '  - issuer: https://id.test.invalid\n    prefix: ""\n    audience: [counterfoil]\n'
        "    keys: {url: https://id.test.invalid/keys}\n"
        f"    groups: {{claim: groups}}\n    attributes:\n{attributes}"
    )


def cell(value) -> str:
    listed = value if isinstance(value, tuple) else (value,)
    return "|".join(
        str(each) if isinstance(each, int) else "'" + each.replace("'", "''") + "'"
        for each in listed
    )


def snapshot(rules, reports, requesters, source="people"):
    """The policy of `rules`, with the requesters' attributes in people.csv, or nowhere."""
    files = {
        "model.conf": MODEL.encode(),
        "policy.csv": policy_text(rules).encode(),
        "reports.yaml": reports_text(reports).encode(),
        "subjects.yaml": subjects(source).encode(),
    }
    if source == "people":
        lines = [", ".join(["subject", *ATTRIBUTES])]
        for each in requesters:
            known = dict(each.attributes)
            cells = [cell(known[name]) if name in known else "" for name in ATTRIBUTES]
            lines.append(", ".join([each.user or each.tool, *cells]))
        files["people.csv"] = "".join(f"{line}\n" for line in lines).encode()
    return snapshot_of(files)


def another(world, maker, lines):
    """The rules with some lines taken out and some put in, or as they are."""
    rules = world.rules
    if maker.seldom(4):
        return rules
    kept = {
        part: [line for line in getattr(rules, part) if not maker.seldom(4)]
        for part in ("access", "cells", "members")
    }
    kept["access"] += [maker.access(lines) for _ in range(maker.chance.randint(0, 1))]
    kept["cells"] += [maker.cells(lines) for _ in range(maker.chance.randint(0, 2))]
    if not kept["access"]:
        kept["access"] = list(rules.access)
    return dataclasses.replace(rules, **{part: tuple(lines) for part, lines in kept.items()})


def acting(rules, action):
    """The rules with all that is said of reading said of another action too."""
    more = [dataclasses.replace(one, action=action) for one in rules.access if one.action == "read"]
    return dataclasses.replace(rules, access=(*rules.access, *more))


def without_empty(requester):
    """The same without attributes that people.csv does not tell from missing ones."""
    kept = tuple((name, value) for name, value in requester.attributes if value != ())
    return dataclasses.replace(requester, attributes=kept)


class Case:
    """Two policies, some requesters with attributes then and now, and rows."""

    def __init__(self, seed: int, *, same_attributes: bool) -> None:
        world = world_of(seed)
        maker, lines = more_of(world, seed + 1)
        self.reports, self.report = world.reports, world.report
        self.then, self.now = world.rules, another(world, maker, lines)
        first = without_empty(world.requester)
        everyone = {first.user or first.tool: first}
        for _ in range(4):
            other = without_empty(maker.requester())
            everyone.setdefault(other.user or other.tool, other)
        self.before = list(everyone.values())
        self.after = [
            each
            if same_attributes or not maker.seldom(4)
            else dataclasses.replace(each, attributes=without_empty(maker.requester()).attributes)
            for each in self.before
        ]
        self.rows = [maker.row(self.report) for _ in range(25)]

    def forms(self, rules, requester):
        """For each row, field -> form; None where it is denied."""
        sources = documents.sources(self.report, self.rows, "csv")
        answer = evaluate(rules, self.report, requester, sources, NOW)
        if answer is None:
            return None
        return [
            {name: str(given.form) for name, given in row.items() if given.kind != "absent"}
            for row in answer.cells
        ]

    def past(self, requester, forms) -> Past:
        """The access as it is on record."""
        counts: dict[str, Counter[str]] = {}
        for row in forms or ():
            for name, form in row.items():
                counts.setdefault(name, Counter())[form] += 1
        blank = dict.fromkeys(Past._fields, "")
        return Past(
            **blank
            | {
                "number": 1, "started": "2026-01-31T12:00:00.000000Z", "access": "0" * 32,
                "address": "127.0.0.1", "method": "GET", "format": "csv", "action": "read",
                "rows": sum(map(bool, forms or ())), "fields": msgspec.json.encode(counts).decode() if counts else "",
                "groups": msgspec.json.encode(requester.groups).decode() if requester.groups else "",
                "subject": requester.user or requester.tool, "tool": requester.tool or "",
                "report": self.report.id, "purpose": requester.purpose, "policy": "then",
                "decision": "deny" if forms is None else "permit",
                "reason": "not-found" if forms is None else "", "cause": "",
            }
        )  # fmt: skip

    def pattern(self, action: str, number: int) -> str:
        """What a grant or a lockdown can be about."""
        ids = [report.id for report in self.reports]
        sets = sorted({set_ for _, set_ in self.then.sets})
        among = ids if action == "grant" else [*ids, *sets, "r/*"]
        among = [each for each in among if covering(each, self.reports, self.then.sets)]
        return among[number % len(among)]

    def may(self, rules, requester, action: str, pattern: str) -> bool:
        """Whether somebody may do an action on all that the pattern covers."""
        covered = covering(pattern, self.reports, rules.sets)
        return all(permitted(rules, report, requester, NOW, action) for report in covered)

    def change(self, requester, action: str, pattern: str, *, may: bool) -> Past:
        """The grant or lockdown as it is on record."""
        return self.past(requester, [] if may else None)._replace(
            method="POST", path=f"/-/{action}s", format="", action=action, report=pattern,
            parameters=msgspec.json.encode({"reason": "because"}).decode() if may else "",
        )  # fmt: skip


def replayed(case, past, then, now) -> Kind | None:
    work = Replay(now, then=lambda _: then, names=lambda subject: subject)
    work.add([past, past])
    found = work.result()
    assert found.accesses == 2
    if not found.tallies:
        assert found.unchanged == 2
        return None
    (tally,) = found.tallies
    assert (tally.count, found.unchanged) == (2, 0)
    assert tally.difference.report == past.report
    return tally.difference.kind


def brute(before, after) -> Kind | None:
    """What an access's difference is by the forms then and now."""
    if before is None or after is None:
        if before is after:
            return None
        return Kind.ALLOWED if before is None else Kind.REFUSED
    return Kind.CHANGED if before != after else None


@settings(max_examples=150)
@given(SEEDS)
def test_replay_agrees_with_brute_force(seed):
    """With all attributes in people.csv: refused and allowed are told exactly, and no change of a cell is missed."""
    case = Case(seed, same_attributes=False)
    then = snapshot(case.then, case.reports, case.before)
    now = snapshot(case.now, case.reports, case.after)
    for old, new in zip(case.before, case.after, strict=True):
        before, after = case.forms(case.then, old), case.forms(case.now, new)
        kind = replayed(case, case.past(old, before), then, now)
        meant = brute(before, after)
        # A change of lines that no row of this case shows is told too.
        assert kind is meant or (meant is None and before is not None and kind is Kind.CHANGED)


@settings(max_examples=150)
@given(SEEDS)
def test_what_the_log_does_not_hold_is_never_guessed(seed):
    """With attributes from tokens, a replay is as right as brute force that knows them, or says it cannot tell."""
    case = Case(seed, same_attributes=True)
    then, now = (snapshot(rules, case.reports, (), "claim") for rules in (case.then, case.now))
    for requester in case.before:
        before, after = case.forms(case.then, requester), case.forms(case.now, requester)
        kind = replayed(case, case.past(requester, before), then, now)
        meant = brute(before, after)
        assert kind in (meant, Kind.UNDECIDED) or (
            before and meant is None and kind is Kind.CHANGED
        )


@settings(max_examples=100)
@given(SEEDS, st.sampled_from(["people", "claim"]))
def test_a_policy_replayed_over_its_own_accesses_changes_nothing(seed, source):
    """The version in force, as its own candidate, finds nothing, and nothing that it cannot tell."""
    case = Case(seed, same_attributes=True)
    same = snapshot(case.then, case.reports, case.before, source)
    for requester in case.before:
        past = case.past(requester, case.forms(case.then, requester))
        assert replayed(case, past, same, same) is None


@settings(max_examples=100)
@given(SEEDS)
def test_where_the_policy_of_then_is_lost_the_forms_on_record_tell(seed):
    """Without the old version, a change of a row that was given then is told, or cannot be told."""
    case = Case(seed, same_attributes=False)
    now = snapshot(case.now, case.reports, case.after)
    for old, new in zip(case.before, case.after, strict=True):
        before, after = case.forms(case.then, old), case.forms(case.now, new)
        kind = replayed(case, case.past(old, before), None, now)
        if before and after:  # rows that were not given then are not on record
            after = [new for old, new in zip(before, after, strict=True) if old]
            before = [old for old in before if old]
        meant = brute(before, after)
        if meant is Kind.CHANGED:
            assert kind in (Kind.CHANGED, Kind.UNDECIDED)
        elif meant is not None:
            assert kind is meant


ACTIONS = st.sampled_from(["grant", "lockdown"])


@settings(max_examples=150)
@given(SEEDS, ACTIONS, st.integers(0, 5), st.sampled_from(["people", "claim"]))
def test_an_action_that_gives_no_cells_agrees_with_brute_force(seed, action, number, source):
    """A grant on a report, a lockdown of a pattern: refused and allowed are told exactly; where attributes
    are of the token, as exactly or not at all, and nothing where the lines are the same.
    """
    case = Case(seed, same_attributes=source == "claim")
    rules = [acting(each, action) for each in (case.then, case.now)]
    pattern = case.pattern(action, number)
    then = snapshot(rules[0], case.reports, case.before, source)
    now = snapshot(rules[1], case.reports, case.after, source)
    for old, new in zip(case.before, case.after, strict=True):
        before = case.may(rules[0], old, action, pattern)
        meant = brute(before or None, case.may(rules[1], new, action, pattern) or None)
        past = case.change(old, action, pattern, may=before)
        kind = replayed(case, past, then, now)
        assert kind is meant or (source == "claim" and kind is Kind.UNDECIDED)
        assert replayed(case, past, then, then) is None


def test_the_random_cases_are_worth_looking_at():
    """Among the accesses of 300 cases there are many of each kind."""
    seen: Counter[str] = Counter()
    for seed in range(300):
        case = Case(seed, same_attributes=True)
        for requester in case.before:
            before, after = case.forms(case.then, requester), case.forms(case.now, requester)
            seen[str(brute(before, after))] += 1
            for action in ("grant", "lockdown"):
                rules = [acting(each, action) for each in (case.then, case.now)]
                pattern = case.pattern(action, seed)
                may = [case.may(each, requester, action, pattern) or None for each in rules]
                seen[f"{action} {brute(*may)}"] += 1
    assert min(seen[str(kind)] for kind in (Kind.REFUSED, Kind.ALLOWED, Kind.CHANGED, None)) >= 10
    for action in ("grant", "lockdown"):
        assert min(seen[f"{action} {kind}"] for kind in (Kind.REFUSED, Kind.ALLOWED, None)) >= 10
