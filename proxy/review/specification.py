"""`policies/tests.yaml`: who must see what, in words that an admin reads, run before a policy is taken.

    tests:
      - as: alice                       # or tool:bi; what its token says:
        groups: [sales-analysts]
        on: sales/store-daily
        rows:                           # sample rows of the store
          - {store_id: "7", region: North, net_sales: "1234.56", buyer_email: a@example.com}
          - {store_id: "8", region: South, net_sales: "10.00"}
        sees: {net_sales: round(100), buyer_email: absent, region: clear}
        rows_absent: [{store_id: "7"}]
        rows_given: [{store_id: "8"}]
      - as: mallory
        on: sales/store-daily
        denied: true

`sees` is what each sample row that is given must hold; without sample rows, the only form in which
the field may be given to this requester at all. Decided and transformed by the code that answers
requests; a key of its own stands for the keyring, so nothing secret is needed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec

from proxy import transform
from proxy.batch import PLAIN, Batch
from proxy.documents import Document, load, nearest
from proxy.errors import Fault, Faulty
from proxy.few import Few
from proxy.keys import Keyring
from proxy.plan import Context, Deny, Permit
from proxy.policy.decide import decide
from proxy.policy.lines import Action
from proxy.policy.piecemeal import let_go
from proxy.report import Report
from proxy.review.explain import Seen, explain
from proxy.seal import OWN
from proxy.snapshot import TESTS_FILE, Snapshot, with_rules
from proxy.subject import AttributeType, Subject
from proxy.values import Value, instant, scalar

ABSENT: Final = "absent"
Cell = str | int | float | bool | None
Text = Annotated[str, msgspec.Meta(min_length=1)]


class Expectation(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"as_": "as"}
):
    """One of `tests`: as somebody, on a report, this is seen."""

    as_: Text
    """The subject: a user's name, or `tool:NAME`."""
    on: Text
    """The report's id."""
    name: str = ""
    """What the test is called where it fails."""
    groups: tuple[Text, ...] | None = None
    """The groups of its token; left out: no such claim."""
    attributes: dict[str, Cell | tuple[Cell, ...]] = {}
    """The attributes that its token says."""
    tool: str = ""
    """The tool through which it asks."""
    purpose: str = ""
    """The purpose that it states."""
    ip: str = "127.0.0.1"
    """Where it asks from."""
    at: str = ""
    """When it asks, as `2026-12-24T18:00Z`; now where left out."""
    denied: bool = False
    """Whether it must be refused; then there is no more to say."""
    rows: tuple[dict[str, Cell], ...] = ()
    """Sample rows of the store; a field that is left out has no value. Decimals are best quoted."""
    sees: dict[str, Text] = {}
    """Field -> its form in each row that is given: `clear`, `round(100)`, …, or `absent`."""
    rows_absent: tuple[dict[str, Cell], ...] = ()
    """Sample rows with these values must not be given."""
    rows_given: tuple[dict[str, Cell], ...] = ()
    """Sample rows with these values must be given."""


class SpecificationFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `tests.yaml`."""

    tests: tuple[Expectation, ...]
    """In any order; each is run by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one test."""

    name: str
    faults: tuple[Fault, ...]


def failures(snapshot: Snapshot, files: Mapping[str, bytes]) -> list[Fault]:
    """What of the policy is not as its tests.yaml says; raises Faulty as `outcomes` does."""
    return [fault for outcome in outcomes(snapshot, files) for fault in outcome.faults]


def malformed(files: Mapping[str, bytes]) -> tuple[Fault, ...]:
    """What is wrong with tests.yaml whatever the policy says."""
    try:
        _document(files)
    except Faulty as exc:
        return exc.faults
    return ()


def outcomes(snapshot: Snapshot, files: Mapping[str, bytes]) -> list[Outcome]:
    """Every test with what failed of it, grants and lockdowns left out.

    Raises Faulty where tests.yaml is malformed, or the policy is none without them.
    """
    document = _document(files)
    if document is None:
        return []
    written = as_written(snapshot, files)
    keyring, now = Keyring.generate(), time.time()
    run = [
        _Run(document, number, written, keyring, now) for number in range(len(document.value.tests))
    ]
    found = [Outcome(name=each.name, faults=tuple(each.faults())) for each in run]
    if written is not snapshot:
        let_go(*written.policy.pieces)  # the server runs this beside requests
    return found


def _document(files: Mapping[str, bytes]) -> Document[SpecificationFile] | None:
    text = files.get(TESTS_FILE)
    return None if text is None else load(text, SpecificationFile, file=TESTS_FILE)


def as_written(snapshot: Snapshot, files: Mapping[str, bytes]) -> Snapshot:
    """The policy as its authors wrote it, without the server's own lines; raises Faulty."""
    written = {name: content for name, content in files.items() if name not in OWN}
    return snapshot if len(written) == len(files) else with_rules(snapshot, written)


class _Run:
    """One test against one snapshot."""

    def __init__(
        self,
        document: Document[SpecificationFile],
        number: int,
        snapshot: Snapshot,
        keyring: Keyring,
        now: float,
    ) -> None:
        self._document = document
        self._number = number
        self._test = document.value.tests[number]
        self._snapshot = snapshot
        self._keyring = keyring
        self._now = now

    @property
    def name(self) -> str:
        test = self._test
        return test.name or f"as {test.as_} on {test.on}"

    def faults(self) -> Iterator[Fault]:
        """All that is not as the test says."""
        test = self._test
        report = self._snapshot.catalogue.reports.get(test.on)
        if report is None:
            hint = nearest(test.on, self._snapshot.catalogue.reports)
            yield self._fault(f"no report is called `{test.on}`", "on", hint=hint)
            return
        try:
            subject, context = self._requester()
            self._check_names(report)
        except Faulty as exc:
            yield from exc.faults
            return
        decision = decide(self._snapshot.policy, subject=subject, report=report, context=context)
        if isinstance(decision, Deny):
            if not test.denied:
                hint = "; ".join(map(str, decision.lines)) or "no line allows it"
                if prefixed := [name for name in test.groups or () if name.startswith("group:")]:
                    plain = prefixed[0].removeprefix("group:")
                    hint += f"; groups are written as tokens have them: `{plain}`"
                yield self._fault(f"{self.name}: is denied ({decision.cause})", "as", hint=hint)
            return
        if test.denied:
            yield self._fault(
                f"{self.name}: is not denied",
                "denied",
                hint=f"permitted by {', '.join(map(str, decision.lines))}",
            )
            return
        yield from self._seen(decision, context)

    def _seen(self, permit: Permit, context: Context) -> Iterator[Fault]:
        test, report = self._test, permit.report
        bound = transform.bind(
            permit.plan, context=context, subject=permit.subject.name, keyring=self._keyring
        )
        given = [_forms(bound, _batch(report, row)) for row in test.rows]
        found_by = explain(
            self._snapshot.policy, subject=permit.subject, report=report, context=context
        ).fields
        for field, expected in test.sees.items():
            if test.rows:
                found = {forms.get(field, ABSENT) for forms in given if forms is not None}
            else:
                found = {
                    str(choice.treatment)
                    for column in permit.plan.columns
                    if column.field.name == field
                    for choice in column.choices
                } or {ABSENT}
            wrong = sorted(found - {expected})
            if wrong:
                lines = _lines(found_by, field, wrong)
                yield self._fault(
                    f"{self.name}: `{field}` is {' or '.join(wrong)}, not {expected}",
                    "sees", field, hint=lines,
                )  # fmt: skip
        for member, wanted, word in (
            ("rows_absent", False, "is given"),
            ("rows_given", True, "is not given"),
        ):
            for at, values in enumerate(getattr(test, member)):
                matching = [
                    forms is not None
                    for row, forms in zip(test.rows, given, strict=True)
                    if all(_text(row.get(name)) == _text(value) for name, value in values.items())
                ]
                if not matching:
                    hint = "write values of one of `rows`"
                    yield self._fault("no sample row has these values", member, at, hint=hint)
                elif any(released is not wanted for released in matching):
                    shown = ", ".join(f"{name} {_text(value)}" for name, value in values.items())
                    by = [line for seen in found_by for form in seen.forms for line in form.lines]
                    hint = f"see {', '.join(map(str, dict.fromkeys(by)))}"
                    message = f"{self.name}: the row with {shown} {word}"
                    yield self._fault(message, member, at, hint=hint)

    def _requester(self) -> tuple[Subject, Context]:
        """Raise Faulty where the test names what there is not."""
        test, faults = self._test, list[Fault]()
        moment = instant(test.at) if test.at else datetime.fromtimestamp(self._now, UTC)
        if moment is None:
            hint = "such as `2026-12-24T18:00Z`"
            faults.append(self._fault(f"`{test.at}` is no time", "at", hint=hint))
        purposes = self._snapshot.catalogue.purposes
        if test.purpose and test.purpose not in purposes:
            message = f"`{test.purpose}` is not a catalogued purpose"
            faults.append(self._fault(message, "purpose", hint=nearest(test.purpose, purposes)))
        attributes: dict[str, Value] = {}
        declared = self._snapshot.identities.attributes
        for name, value in test.attributes.items():
            if name not in declared:
                message, hint = f"no attribute is called `{name}`", nearest(name, declared)
                faults.append(self._fault(message, "attributes", name, hint=hint))
            elif (typed := _typed(value, declared[name])) is None:
                many, hint = declared[name].many, "see the attribute's `type` and `many`"
                kind = (
                    f"a list, each of type {declared[name].type}"
                    if many
                    else f"of type {declared[name].type}"
                )
                message = f"the value of `{name}` must be {kind}"
                faults.append(self._fault(message, "attributes", name, hint=hint))
            else:
                attributes[name] = typed
        if moment is None or faults:
            raise Faulty(faults)
        subject = self._snapshot.identities.subject_of(
            test.as_ if test.as_.startswith(("user:", "tool:")) else f"user:{test.as_}",
            groups=None if test.groups is None else tuple(f"group:{name}" for name in test.groups),
            attributes=attributes,
            tool=f"tool:{test.tool.removeprefix('tool:')}" if test.tool else None,
            now=moment.timestamp(),
        )
        if subject is None:
            prefixes = ", ".join(f"`{realm.prefix}`" for realm in self._snapshot.identities.realms)
            message = f"no issuer has a subject named `{test.as_}`"
            raise Faulty([self._fault(message, "as", hint=f"their names begin with {prefixes}")])
        context = Context(
            attributes=subject.attributes, now=moment, date=moment.date(), ip=test.ip,
            purpose=test.purpose, tool=(subject.tool or "").removeprefix("tool:"),
            action=Action.READ, method="GET",
        )  # fmt: skip
        return subject, context

    def _check_names(self, report: Report) -> None:
        test = self._test
        places: list[tuple[tuple[str | int, ...], str]] = [
            (("sees", name), name) for name in test.sees
        ]
        for member in ("rows", "rows_absent", "rows_given"):
            for at, row in enumerate(getattr(test, member)):
                places += [((member, at, name), name) for name in row]
        faults = [
            self._fault(
                f"`{report.id}` declares no field `{name}`",
                *place,
                hint=nearest(name, report.fields),
            )
            for place, name in places
            if name not in report.fields
        ]
        if test.denied and (test.sees or test.rows_given or test.rows_absent):
            faults.append(
                self._fault(
                    "who is denied sees nothing",
                    "denied",
                    hint="leave out `sees`, `rows_given` and `rows_absent`",
                )
            )
        if faults:
            raise Faulty(faults)

    def _fault(self, message: str, *place: str | int, hint: str = "") -> Fault:
        return self._document.fault(message, "tests", self._number, *place, hint=hint)


def _lines(fields: Sequence[Seen], name: str, wrong: Sequence[str]) -> str:
    """Which lines made a field what it is."""
    for seen in fields:
        if seen.field == name:
            by = [line for form in seen.forms if form.form in wrong for line in form.lines]
            if by:
                return f"by {', '.join(map(str, by))}"
            # It depends on the row: on what gives the field, and on what hides it.
            either = [line for form in seen.forms for line in form.lines]
            return seen.why_absent or f"see {', '.join(map(str, either))}"
    return ""


def _forms(bound: transform.Transform, batch: Batch) -> dict[str, str] | None:
    """Field -> the form in which its cell is given; None where the row is not."""
    given = bound.apply(batch)
    if not given.batch.height:
        return None
    return {field: next(iter(counts)) for field, counts in given.cells.items() if counts}


def _batch(report: Report, row: Mapping[str, Cell]) -> Batch:
    return Batch(
        {name: Few([_text(row.get(name))]) for name in report.fields},
        height=1,
        lexis=PLAIN,
        types={name: field.type for name, field in report.fields.items()},
        few=True,
    )


def _text(cell: Cell) -> str | None:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return None if cell is None else str(cell)


def _typed(given: Cell | Sequence[Cell], declared: AttributeType) -> Value | None:
    """The value of an attribute; None where it is none of its type."""
    many = isinstance(given, tuple | list)
    if many is not declared.many:
        return None
    cells: Sequence[Cell] = given if isinstance(given, tuple | list) else (given,)
    values = [scalar(_text(cell) or "", declared.type) for cell in cells]
    known = tuple(value for value in values if value is not None)
    if len(known) != len(values):
        return None
    return known if declared.many else known[0]
