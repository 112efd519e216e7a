"""Random small worlds: in most of them somebody is given some cells of some rows.

A world is made from a seed (hypothesis draws the seeds). Hypothesis's own strategies would make most
worlds empty and their rows alike, since it repeats parts of what it has drawn; here the shares are what
they are stated to be.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from tests.reference.conditions import FALSE, TRUE, Condition
from tests.reference.documents import Datum, token_of
from tests.reference.evaluator import closure
from tests.reference.forms import ACCEPTS, Form
from tests.reference.nouns import (
    CLASSES,
    PURPOSES,
    AccessLine,
    CellLine,
    Field,
    Fields,
    Report,
    Requester,
    Rules,
    World,
)  # fmt: skip

T = TypeVar("T")
C = Condition

TYPES = {
    "id": "text", "store": "text", "region": "text", "units": "integer", "sales": "decimal",
    "open": "boolean", "day": "date", "at": "datetime", "Net Margin": "decimal", 'a "b"': "text",
}  # fmt: skip
"""All fields of all worlds; a report has some of them."""

TEXTS = {
    "text": (
        "North", "South", "Öst", "O'Brien", 'say "hi"', "a,b", "two\nlines", "cr\r\nlf", "", "007",
        " pad ", "1.10", "null", "=1+1", "日本語", "𝒳y", "x" * 60, "#c", "a|b", "\t", "-", "a\\b", "true",
        "AB-1234-77", "AB-1234-78", "ab12.cd@34", "0001234567", "AB-1234-é", "QX 88-31-05 77",
    ),
    "integer": (
        "0", "7", "-3", "150", "+5", "007", "1250", "1350", "-150", "9" * 30, "9" * 36, "1" * 40,
        "n/a", "1.5", "", " 7", "٣",
        "1234567", "+01234567", "-20261128",
    ),
    "decimal": (
        "18.09", "1.10", "150", "-0.5", "0.25", "1e3", "2.5E-2", "1250", "1350.0", "50", "-50",
        "150.000", "1E400", "1e-40", "NaN", "n/a", "", "1.", "12345678901234567890.123456789",
        "9" * 36 + ".5", "-0", "0." + "0" * 35 + "5",
    ),
    "boolean": ("true", "false", "true", "false", "True", "1", ""),
    "date": ("2026-01-31", "2024-02-29", "1999-12-31", "2023-02-29", "20260101", "", "0001-01-01"),
    "datetime": (
        "2026-01-31T12:00:00Z", "2026-01-31 12:00", "2026-01-31T13:00:00+01:00", "2024-02-29T23:59:59.5Z",
        "2026-01-31T12:60:00Z", "", "0001-01-01T00:00:00+10:00",
    ),
}  # fmt: skip
"""The first four of each are common, so that conditions meet them."""

STRAY = ('"txt"', "12", "true", '{"a":[1,"x"]}', "[]", "")
"""JSON that is not of a field's type, or a member that is not there."""

REPORTS = ("r/one", "r/two", "other")
ROLES = ("role:r1", "role:r2", "role:r3", "role:r4")
GROUPS = ("group:g1", "group:g2")
USERS = ("user:alice", "user:bob")
TOOLS = ("tool:app", "tool:bi")
SETS = ("set:s", "set:t")


class Maker:
    """Makes all parts of a world by one source of chance."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def one(self, among: Sequence[T]) -> T:
        return self.chance.choice(among)

    def some(self, among: Sequence[T], least: int = 0, most: int = 3) -> list[T]:
        return self.chance.sample(among, min(len(among), self.chance.randint(least, most)))

    def seldom(self, one_in: int) -> bool:
        return self.chance.randrange(one_in) == 0

    # ── conditions ──

    def literal(self, type_: str) -> Condition:
        """A literal of a type, mostly one that rows hold too."""
        match type_:
            case "text":
                printable = [text for text in TEXTS["text"] if text.isprintable()]
                return C("text", (self.one(printable if self.seldom(4) else printable[:4]),))
            case "integer" | "decimal":
                return C("number", (self.one(["0", "7", "150", "1.1", "18.09", "1250"]),))
            case "boolean":
                return C("boolean", (self.one(["true", "false"]),))
            case "date":
                return C("date", (self.one(["2026-01-31", "2024-02-29"]),))
            case _:
                return C("time", (self.one(["2026-01-31T12:00", "2026-01-31T12:00:00+01:00"]),))

    def value(self, fields: Sequence[Field], type_: str) -> Condition:
        """Something of a kind, mostly of the row."""
        numbers = ("integer", "decimal")
        alike = numbers if type_ in numbers else (type_,)
        rows = [C("row", (field.name,)) for field in fields if field.type in alike]
        others = {
            "text": [C("sub", ("region",)), C("env", ("purpose",)), C("env", ("tool",))],
            "date": [C("env", ("date",))],
            "datetime": [C("env", ("now",))],
        }.get(type_, [C("sub", ("level",))] if type_ in numbers else [])
        if not rows or (others and self.seldom(5)):
            leaf = self.one(others) if others else self.literal(type_)
        else:
            leaf = self.one(rows)
        if not self.seldom(7):
            return leaf
        match type_:
            case "integer" | "decimal":
                return C(self.one("+-*/"), (leaf, self.literal(type_)))
            case "date" | "datetime":
                days = C("days", (C("number", (self.one(["1", "365", "9999999"]),)),))
                return C(self.one("+-"), (leaf, days))
            case "text":
                return C(self.one(["lower", "upper"]), (leaf,))
        return leaf

    def atom(self, fields: Sequence[Field]) -> Condition:
        types = [field.type for field in fields] or ["text", "text", "integer", "date", "datetime"]
        type_ = self.one(types)
        value = self.value(fields, type_)
        other = self.value(fields, type_) if self.seldom(4) else self.literal(type_)
        kinds = ["compare", "compare", "in", "present", "not in"]
        if type_ == "text":
            kinds += ["stores", "stores", "string", "length"]
        match self.one(kinds):
            case "compare":
                ordered = ["==", "!="] if type_ == "boolean" else ["<", "<=", ">", ">=", "=="]
                return C(self.one(["==", "!=", *ordered]), (value, other))
            case "present":
                return C("present", (value,))
            case "stores":
                return C(self.one(["in", "in", "not in"]), (value, C("sub", ("stores",))))
            case "string":
                return C(self.one(["starts", "ends", "contains"]), (value, other))
            case "length":
                return C("<", (C("length", (value,)), C("number", ("5",))))
            case word:
                more = [self.literal(type_) for _ in range(self.chance.randint(0, 2))]
                return C(word, (value, C("list", (other, *more))))

    def condition(self, fields: Sequence[Field]) -> Condition:
        """On these fields, the subject and the context; without fields, on the latter two."""
        match self.chance.randrange(10):
            case 0:
                return C("not", (self.atom(fields),))
            case 1 | 2 | 3:
                joined = C(self.one(["and", "or"]), (self.atom(fields), self.atom(fields)))
                return C("not", (joined,)) if self.seldom(4) else joined
        return self.atom(fields)

    # ── forms and lines ──

    def suppress(self, reports: Sequence[Report]) -> Form | None:
        """The one way in which rows are counted in a world of these reports, if any."""
        names = [{field.name for field in report.fields} for report in reports]
        common = sorted(set.intersection(*names))
        if not common or not self.seldom(5):
            return None
        return Form("suppress", (self.one([2, 2, 3, 4]), tuple(self.some(common, 1, 2))))

    def form(self) -> Form:
        match self.one(["clear", "clear", "round", "round", "bucket", "bucket", "truncate", "truncate", "partial", "tokenise", "pseudonym", "encrypt", "constant", "redact"]):  # fmt: skip
            case "round":
                return Form("round", (self.one(["100", "50", "0.5", "2.5", "1000", "3"]),))
            case "bucket":
                edges = self.one([("0", "100", "1000"), ("-7.50", "0.0", "18.09"), ("7",), ("2025-12-31", "2026-02-01")])  # fmt: skip
                return Form("bucket", (*edges, self.seldom(2)))
            case "truncate":
                units = ("year", "quarter", "month", "week", "day", "hour")
                return Form("truncate", (self.one(units),))
            case "partial":
                return Form(
                    "partial", self.one([(0, 2, "*"), (1, 1, "*"), (3, 0, "#"), (1, 0, "…")])
                )
            case "tokenise":
                return Form(
                    "tokenise",
                    self.one(
                        [
                            ("pattern", None),
                            ("pattern", "people"),
                            ("digits", None),
                            ("upper", None),
                        ]
                    ),
                )
            case "pseudonym":
                return Form(
                    "pseudonym", self.one([(None, None), ("people", None), (None, "subject")])
                )
            case "constant":
                literals = [
                    ("n/a", True),
                    ("0", False),
                    ("2026-01-01", True),
                    ("true", True),
                    ("-1.50", False),
                ]
                return Form("constant", self.one(literals))
            case name:
                return Form(name)

    def fields(self, covered: Sequence[Report], form: Form | None) -> Fields:
        """A list of fields of the covered reports, all of types that the form takes."""
        known = _known(covered)
        items = tuple(
            self.some([f.name for f in known], 1) + self.some([f"@{c}" for c in CLASSES], 0, 1)
        )
        fields = self.one([Fields(all=True), Fields(items), Fields(items), Fields(items, all=True)])
        if form is None or form.name not in ACCEPTS:
            return fields
        every = [field for report in covered for field in report.fields]
        if all(form.takes(field.type) for field in every if fields.names(field)):
            return fields
        return Fields(tuple(self.some([f.name for f in known if form.takes(f.type)], 1)))

    def access(self, lines: Lines, effect: str | None = None) -> AccessLine:
        return AccessLine(
            who=lines.who(self),
            report=lines.report(self),
            action=self.one(["read", "read", "act"]),
            when=self.condition(()) if self.seldom(3) else TRUE,
            effect=effect or ("deny" if self.seldom(6) else "allow"),
        )

    def cells(self, lines: Lines, *, deny: bool | None = None) -> CellLine:
        pattern = lines.report(self)
        covered = covering(pattern, lines.reports, lines.sets)
        known = _known(covered)
        counted = lines.suppress
        form = counted if counted and self.seldom(3) else self.form()
        if not any(form.takes(field.type) for field in known):
            form = Form("clear")
        if deny is None:
            deny = self.seldom(6)
        if counted:  # what looks at rows would tell of the groups that are hidden
            rows = self.condition(()) if self.seldom(3) else FALSE if deny else TRUE
        elif deny:
            rows = self.one([TRUE, FALSE]) if self.seldom(6) else self.condition(known)
        elif self.seldom(3):
            rows = FALSE if self.seldom(15) else TRUE
        else:
            rows = self.condition(known)
        return CellLine(
            who=lines.who(self),
            report=pattern,
            rows=rows,
            fields=self.fields(covered, None if deny else form),
            form=None if deny else form,
        )

    def reveals(self, lines: Lines) -> CellLine:
        """A line that gives no cell, and sealed ones back."""
        line = self.cells(lines, deny=True)
        return dataclasses.replace(line, form=Form("reveal"))

    # ── rows ──

    def datum(self, type_: str, *, stray: bool = True) -> Datum:
        texts = TEXTS[type_]
        text = None if self.seldom(12) else self.one(texts if self.seldom(3) else texts[:4])
        if stray and self.seldom(20):
            return Datum(text, self.one(STRAY))
        return Datum(text, token_of(text, type_, escaped=self.seldom(6)))

    def row(
        self, report: Report, *, stray: bool = True, alike: Sequence[str] = ()
    ) -> dict[str, Datum]:
        """A row; of the fields in `alike` most have one of two values."""
        row = {field.name: self.datum(field.type, stray=stray) for field in report.fields}
        for field in report.fields:
            if field.name in alike and not self.seldom(6):
                text = self.one(TEXTS[field.type][:2])
                row[field.name] = Datum(text, token_of(text, field.type))
        return row

    # ── all of it ──

    def report(self, id_: str, names: Sequence[str]) -> Report:
        chosen = self.some(names, 2, 6)
        return Report(
            id=id_,
            fields=tuple(Field(name, TYPES[name], self.one(CLASSES)) for name in chosen),
            key=tuple(self.some(chosen, 0, 2)),
            prefer=self.one([
                ("suppress", "round", "pseudonym", "bucket", "truncate", "tokenise", "partial"),
                ("partial", "bucket", "tokenise", "round", "suppress", "pseudonym", "truncate"),
                ("truncate", "pseudonym", "suppress", "partial", "bucket", "round", "tokenise"),
            ]),
            stable=self.seldom(5),
        )  # fmt: skip

    def requester(self, *, alone: bool = True) -> Requester:
        """A user with or without a tool; with `alone`, now and then a tool by itself."""
        attributes: dict[str, Any] = {}
        if not self.seldom(6):
            attributes["stores"] = tuple(self.some(TEXTS["text"][:6], 0, 4))
        if not self.seldom(3):
            attributes["region"] = self.one(TEXTS["text"][:4])
        if not self.seldom(3):
            attributes["level"] = self.one([0, 7, 150])
        by_itself = alone and self.seldom(8)
        return Requester(
            user=None if by_itself else self.one(USERS),
            groups=() if by_itself else tuple(self.some(GROUPS, 0, 2)),
            tool="tool:app" if by_itself or not self.seldom(3) else None,
            attributes=tuple(attributes.items()),
            purpose=self.one(["", *PURPOSES]),
        )

    def world(self, *, alone: bool = True, rows: int = 8) -> World:
        names = self.some(sorted(TYPES), 6, 8)
        ids = self.one([REPORTS[:1], REPORTS[:2], REPORTS])
        reports = tuple(self.report(id_, names) for id_ in ids)
        sets: list[tuple[str, str]] = []
        if self.seldom(2):
            sets.append((self.one([*ids, "r/*"]), SETS[0]))
            if self.seldom(2):
                sets.append((SETS[0], SETS[1]))
        requester = self.requester(alone=alone)
        ladder = [*USERS, *GROUPS, *TOOLS, *ROLES]
        links = [(a, b) for n, a in enumerate(ladder) for b in ladder[n + 1 :] if b in ROLES]
        members = self.some(links, 0, 8)
        suppress = self.suppress(reports)
        lines = Lines(reports, sets, members, requester, suppress)
        access = [self.access(lines) for _ in range(self.chance.randint(0, 2))]
        if not self.seldom(10):
            access.append(AccessLine(lines.own(self), reports[0].id, "read", TRUE, "allow"))
        if requester.tool and requester.user and not self.seldom(10):
            access.append(AccessLine(requester.tool, reports[0].id, "act", TRUE, "allow"))
        if not access:
            access.append(AccessLine("user:nobody", reports[0].id, "read", TRUE, "allow"))
        cells = [self.cells(lines) for _ in range(self.chance.randint(1, 6))]
        made = tuple(
            self.row(reports[0], alike=suppress.arguments[1] if suppress else ())
            for _ in range(self.chance.randint(0, 3 * rows if suppress else rows))
        )
        if self.seldom(3):
            cells.append(self.reveals(lines))
        return World(
            reports=reports,
            rules=Rules(tuple(access), tuple(cells), tuple(members), tuple(sets)),
            requester=requester,
            rows=made,
        )


class Lines:
    """What lines can be about: mostly the requester and the report that is asked for."""

    def __init__(
        self,
        reports: Sequence[Report],
        sets: Sequence[tuple[str, str]],
        members: Sequence[tuple[str, str]],
        requester: Requester,
        suppress: Form | None,
    ) -> None:
        """`suppress`: the one way in which rows are counted; then no line looks at rows."""
        self.reports, self.sets, self.suppress = reports, sets, suppress
        names = [requester.user, *requester.groups] if requester.user else [requester.tool]
        self._own = sorted(closure([name for name in names if name], members))
        ids = [report.id for report in reports]
        self._all = [*ids, "r/*", *sorted({set_ for _, set_ in sets})]
        self._about = [each for each in self._all if reports[0] in covering(each, reports, sets)]

    def own(self, maker: Maker) -> str:
        return maker.one(self._own)

    def who(self, maker: Maker) -> str:
        return maker.one([*USERS, *GROUPS, *TOOLS, *ROLES]) if maker.seldom(4) else self.own(maker)

    def report(self, maker: Maker) -> str:
        return maker.one(self._all if maker.seldom(6) else self._about)


def covering(
    pattern: str, reports: Sequence[Report], sets: Sequence[tuple[str, str]]
) -> list[Report]:
    """The reports that a pattern means."""
    if pattern.startswith("set:"):
        inside = [member for member, set_ in sets if set_ == pattern]
        return [r for r in reports if any(r in covering(each, reports, sets) for each in inside)]
    if pattern.endswith("/*"):
        return [report for report in reports if report.id.startswith(pattern[:-1])]
    return [report for report in reports if report.id == pattern]


def _known(covered: Sequence[Report]) -> list[Field]:
    return list({field.name: field for report in covered for field in report.fields}.values())


def world_of(seed: int, *, alone: bool = True, rows: int = 8) -> World:
    return Maker(random.Random(seed)).world(alone=alone, rows=rows)


SEEDS = st.integers(0, 2**32)


def more_of(world: World, seed: int) -> tuple[Maker, Lines]:
    """What makes further lines for a world."""
    forms = {line.form for line in world.rules.cells if line.form}
    suppress = next((form for form in forms if form.name == "suppress"), None)
    lines = Lines(world.reports, world.rules.sets, world.rules.members, world.requester, suppress)
    return Maker(random.Random(seed)), lines


# ── the files of a world ──


def policy_text(rules: Rules, order: Sequence[int] | None = None) -> str:
    """policy.csv, its lines in the given order."""
    lines = rules.lines()
    return "".join(f"{lines[n]}\n" for n in (order if order is not None else range(len(lines))))


def reports_text(reports: Sequence[Report], store: str = "https://store.invalid") -> str:
    """reports.yaml: each report as `/ID.csv` and `/ID.json`."""
    entries = {
        report.id: {
            "title": report.id,
            "store": "main",
            "key": list(report.key),
            "prefer": list(report.prefer),
            **({"shape": "stable"} if report.stable else {}),
            "variants": [
                {"path": f"/{report.id}.{format_}", "format": format_}
                for format_ in ("csv", "json")
            ],
            "fields": {
                field.name: {"type": field.type, "class": field.class_} for field in report.fields
            },
        }
        for report in reports
    }
    stores = {"main": {"url": store, "loopback": store.startswith("http:")}}
    declared = {"stores": stores, "purposes": list(PURPOSES), "reports": entries}
    return json.dumps(declared, ensure_ascii=False)  # which is YAML, and quickly written
