"""limits.yaml -> how much each subject may be given of which reports in a minute, an hour, a day, a week.

    limits:
      - {who: role:analyst, reports: sales/*,     what: cells of @confidential, most: 50000, per: day}
      - {who: anyone,       reports: set:figures, what: reports,                most: 20,    per: week}

Each subject that `who` matches, as in policy.csv, has a budget of its own. All limits that match hold at
once, so the tightest refuses. What is given of a report is counted in full, whichever of its limits matches
the subject: so a limit that begins to match finds what was given before.

Windows are fixed and in UTC: a minute, an hour, a day from midnight on, a week from Monday's midnight on.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

import msgspec

from proxy.documents import Document, load
from proxy.errors import Fault, Faulty
from proxy.plan import Line, Plan
from proxy.policy import grammar
from proxy.policy.grammar import Wrong
from proxy.policy.index import Policy
from proxy.report import Report

LIMITS_FILE: Final = "limits.yaml"
_CELLS: Final = re.compile(r"cells of @(\S.*)\Z")
_TELL_NOTHING: Final = frozenset({"redact", "constant"})
"""Forms that say nothing of a cell, not even whether there is one."""
_LUMPED: Final = "+"
"""How the name begins under which a record counts the fields that are too many to be told apart."""


class Window(NamedTuple):
    """From when to when something is counted: seconds since the epoch, the end excluded."""

    start: int
    end: int


class Per(StrEnum):
    """How long a budget lasts until there is a new one."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"

    @property
    def seconds(self) -> int:
        """How long a window is."""
        return _SECONDS[self]

    def window(self, now: float) -> Window:
        """The one that `now` is in."""
        start = math.floor(now - _MONDAY) // self.seconds * self.seconds + _MONDAY
        return Window(start, start + self.seconds)


_SECONDS: Final = {Per.MINUTE: 60, Per.HOUR: 3_600, Per.DAY: 86_400, Per.WEEK: 604_800}
_MONDAY: Final = 4 * 86_400
"""1970-01-05: the first Monday; every day, hour and minute begins with it as well."""


class What(StrEnum):
    """What is counted."""

    ROWS = "rows"
    CELLS = "cells"
    BYTES = "bytes"
    REPORTS = "reports"


class LimitEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `limits`."""

    who: Annotated[str, msgspec.Meta(examples=["role:analyst"])]
    """A principal, as in policy.csv: `role:…`, `group:…`, `user:…`, `tool:…` or `anyone`. Each subject that
    it matches is counted by itself; what a user asks for through a tool is the user's."""
    reports: Annotated[str, msgspec.Meta(examples=["sales/*"])]
    """An id, `prefix/*` or `set:NAME`, as in policy.csv."""
    what: Annotated[str, msgspec.Meta(examples=["cells of @confidential"])]
    """`rows`, `cells of @CLASS` (in whatever form, but `redact` and `constant`), `bytes` of answers without
    their content coding, or `reports`: how many different ones."""
    most: Annotated[int, msgspec.Meta(ge=1, le=1 << 50)]
    """How much may be given in a window, this much included."""
    per: Per
    """The window, of fixed length and in UTC: a minute, an hour, a day, or a week from Monday on."""


class LimitsFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `limits.yaml`."""

    limits: tuple[LimitEntry, ...]
    """In any order: all that match hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counter:
    """What is counted of each subject; limits that count the same share one."""

    what: What
    per: Per
    fields: Mapping[str, frozenset[str]] = field(hash=False)
    """The ids of its reports; where cells are counted, the fields of each whose cells are."""
    id: str = field(init=False)
    """The same wherever the same is counted: another class of a field, another report makes another one."""

    def __post_init__(self) -> None:
        covered = sorted((report, sorted(names)) for report, names in self.fields.items())
        told = msgspec.json.encode([self.what, self.per, covered])
        object.__setattr__(self, "id", hashlib.sha256(told).hexdigest()[:24])

    def cells(self, report: str, given: Mapping[str, Mapping[str, int]]) -> int:
        """How many of the cells given (field -> form -> number) it counts; all of fields lumped together."""
        names = self.fields[report]
        return sum(
            number
            for name, forms in given.items()
            if name in names or (name.startswith(_LUMPED) and name[1:].isdecimal())
            for form, number in forms.items()
            if _tells(form)
        )

    def may_count(self, plan: Plan) -> bool:
        """Whether what the plan gives may be something that it counts."""
        if self.what is not What.CELLS:
            return True
        names = self.fields[plan.report.id]
        return any(
            column.field.name in names and any(_tells(str(c.treatment)) for c in column.choices)
            for column in plan.columns
        )


def _tells(form: str) -> bool:
    return form.partition("(")[0] not in _TELL_NOTHING


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """One line's: `most` of what `counter` counts, for each subject that is `who`."""

    who: str
    reports: str
    what: str
    most: int
    counter: Counter
    line: Line

    def __str__(self) -> str:
        return f"{self.most} {self.what} per {self.counter.per}"


class Limits:
    """All limits of one policy version; a new version is a new object."""

    def __init__(self, limits: Collection[Limit] = ()) -> None:
        self.all: tuple[Limit, ...] = tuple(limits)
        self.counters: Mapping[str, Counter] = {each.counter.id: each.counter for each in self.all}
        of: dict[str, list[Limit]] = {}
        for limit in self.all:
            for report in limit.counter.fields:
                of.setdefault(report, []).append(limit)
        self._of = {report: tuple(found) for report, found in of.items()}

    def of(self, report: str) -> tuple[Limit, ...]:
        """The limits on a report, whoever asks."""
        return self._of.get(report, ())


NONE: Final = Limits()


def read_limits(
    files: Mapping[str, bytes],
    *,
    policy: Policy,
    reports: Mapping[str, Report],
    classes: Collection[str],
) -> Limits:
    """What the file says, where there is one; raises Faulty. Roles and sets are those of `policy`."""
    data = files.get(LIMITS_FILE)
    if data is None:
        return NONE
    document = load(data, LimitsFile, file=LIMITS_FILE)
    reader = _Reader(document, policy, reports, classes)
    limits = list(reader.limits())
    if reader.faults:
        raise Faulty(reader.faults)
    return Limits(limits)


class _Reader:
    """Entries -> limits, each fault noted in its place."""

    def __init__(
        self,
        document: Document[LimitsFile],
        policy: Policy,
        reports: Mapping[str, Report],
        classes: Collection[str],
    ) -> None:
        self.faults: list[Fault] = []
        self._document = document
        self._policy = policy
        self._reports = reports
        self._classes = classes

    def _fault(self, message: str, *path: str | int, hint: str) -> None:
        self.faults.append(self._document.fault(message, *path, hint=hint))

    def limits(self) -> Iterator[Limit]:
        """Those without faults."""
        entries = self._document.value.limits
        if not entries:
            self._fault("there is no limit", "limits", hint="write one, or take the file out")
        lines: dict[tuple[str, ...], int] = {}  # of the first that limits it
        for number, entry in enumerate(entries):
            here = ("limits", number)
            line = self._document.place(*here)[0]
            same = (entry.who, entry.reports, entry.what, entry.per)
            if same in lines:
                message = f"the same is limited in line {lines[same]} already"
                self._fault(message, *here, hint="write one of them: the tighter one would hold")
            lines.setdefault(same, line)
            before = len(self.faults)
            who = self._who(entry.who, *here, "who")
            covered = self._covered(entry.reports, *here, "reports")
            counter = self._counter(entry, covered, *here, "what")
            if counter is not None and len(self.faults) == before:
                yield Limit(
                    who=who,
                    reports=entry.reports,
                    what=entry.what,
                    most=entry.most,
                    counter=counter,
                    line=Line(file=LIMITS_FILE, line=line),
                )

    def _who(self, text: str, *path: str | int) -> str:
        try:
            found = grammar.principal(text)
        except Wrong as wrong:
            self._tell(wrong, *path)
            return ""
        if found.startswith("role:") and found not in self._policy.given_roles:
            # It would limit nobody, and nobody would notice.
            hint = grammar.nearest(
                found, self._policy.given_roles, otherwise="a `g` line gives one"
            )
            self._fault(f"nobody holds the role `{found}`", *path, hint=hint)
        return found

    def _covered(self, text: str, *path: str | int) -> tuple[str, ...]:
        try:
            grammar.report_pattern(text, self._reports, self._policy.report_sets)
        except Wrong as wrong:
            self._tell(wrong, *path)
            return ()
        return self._policy.covered(text)

    def _tell(self, wrong: Wrong, *path: str | int) -> None:
        for _, message, hint in wrong.found:
            self._fault(message, *path, hint=hint)

    def _counter(
        self, entry: LimitEntry, covered: tuple[str, ...], *path: str | int
    ) -> Counter | None:
        fields: dict[str, frozenset[str]] = dict.fromkeys(covered, frozenset())
        if entry.what in (What.ROWS, What.BYTES, What.REPORTS):
            return Counter(what=What(entry.what), per=entry.per, fields=fields)
        matched = _CELLS.match(entry.what)
        if matched is None:
            hint = "write `rows`, `cells of @CLASS`, `bytes` or `reports`"
            self._fault(f"`{entry.what}` is nothing that is counted", *path, hint=hint)
            return None
        name = matched[1]
        if name not in self._classes:
            hint = grammar.nearest(name, self._classes, otherwise="see `classes` in reports.yaml")
            written = f"@{name}"
            self._fault(f"unknown class `{written}`", *path, hint=hint)
            return None
        for report in covered:
            declared = self._reports[report].fields.values()
            fields[report] = frozenset(each.name for each in declared if each.class_ == name)
        fields = {report: names for report, names in fields.items() if names}
        if covered and not fields:
            message = f"no field of `{entry.reports}` is of the class `@{name}`"
            self._fault(message, *path, hint="it would limit nothing: take it out")
            return None
        return Counter(what=What.CELLS, per=entry.per, fields=fields)
