"""Records of the rule files -> rules, each fault at its place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar

from proxy.errors import Fault
from proxy.plan import Line
from proxy.policy import grammar
from proxy.policy.conditions import BadCondition, Between, Condition, Form, Scope, part
from proxy.policy.grammar import Wrong
from proxy.policy.lines import AccessRule, Action, CellRule, Effect, Rows, patterns
from proxy.policy.piecemeal import let_go, used_up
from proxy.policy.rules import Roles
from proxy.policy.syntax import Record
from proxy.report import Report
from proxy.subject import AttributeType
from proxy.treatments import BadTreatment, Treatment, parse
from proxy.treatments import place as form_place
from proxy.values import Type

SHAPES: Final[Mapping[str, tuple[str, ...]]] = {
    "p": ("subject", "report", "action", "when", "effect"),
    "p2": ("subject", "report", "rows", "fields", "treatment"),
    "g": ("member", "role"),
    "g2": ("report", "set"),
}
"""Line type -> what its cells are."""

DENY: Final = "deny"
"""Where a treatment is written: the cell is absent, whatever else grants it."""

REVEAL: Final = "reveal"
"""Where a treatment is written: no cell is given; what is encrypted or tokenised in it may be given back."""

MAX_FAULTS: Final = 1_000
"""With so many faults the rest of the lines is not looked at: the file is no policy."""

T = TypeVar("T")
_Access = tuple[str, Action, Condition, Effect]
_Cells = tuple[Mapping[str, frozenset[str]], Treatment | None, Action]
_CLEAR: Final = parse("clear")


class Reader:
    """Records -> rules: `g2` first, then the rest.

    Equal cells are parsed and checked once, and so is what many lines have in common: of conditions
    their form, of lines all but whom they are about.
    """

    def __init__(
        self,
        records: list[Record],
        reports: Mapping[str, Report],
        classes: Collection[str],
        attributes: Mapping[str, AttributeType],
        faults: list[Fault],
    ) -> None:
        self.access: list[AccessRule] = []
        self.cells: list[CellRule] = []
        self.reveals: list[CellRule] = []
        self.members: dict[tuple[str, str], Line] = {}
        self.sets: dict[tuple[str, str], Line] = {}
        self._faults = faults
        self._reports = reports
        self._classes = classes
        self._attributes = attributes
        self._known: dict[tuple[object, ...], object] = {}
        self._principals: dict[str, str] = {}
        self._access_alike: dict[tuple[str, ...], _Access] = {}
        self._cells_alike: dict[tuple[str, str, str], _Cells] = {}
        self._rows: dict[tuple[str, str], Rows] = {}
        self._row_forms: dict[tuple[str, Between], tuple[Form, Mapping[str, Form]]] = {}
        self._when_forms: dict[Between, Form] = {}
        self._row_scopes: dict[str, list[tuple[str, Scope]]] = {}
        records[:] = [record for record in records if shaped(record, faults)]
        of_sets = [record for record in records if record.cells[0] == "g2"]
        self._filled = frozenset(record.cells[2] for record in of_sets)
        for record in of_sets:
            self._set(record)
        self._covered = self._coverage()
        for record in used_up(records):
            if len(faults) > MAX_FAULTS:
                faults.append(
                    record.fault(
                        "so far more faults than are told at once", "put those right first"
                    )
                )
                break
            match record.cells[0]:
                case "p":
                    self._access_rule(record)
                case "p2":
                    self._cell_rule(record)
                case "g":
                    self._membership(record)
                case _:
                    pass  # `g2`, read before

    def forget(self) -> None:
        """Let go of what only reading needed."""
        let_go(
            self._known, self._principals, self._access_alike, self._cells_alike, self._rows,
            self._row_forms, self._when_forms,
        )  # fmt: skip

    def _cell(
        self, record: Record, cell: int, read_: Callable[..., T], *arguments: object
    ) -> T | None:
        """The value of one cell, or None with its faults told; `arguments` follow the text."""
        # Without `read_`, a method of ours: the circle would stay until a full garbage collection.
        key = (record.cells[0], cell, record.cells[cell], *arguments)
        found = self._known.get(key)
        if found is None:
            try:
                found = read_(record.cells[cell], *arguments)
            except Wrong as wrong:
                found = wrong.with_traceback(None)
            self._known[key] = found
        if isinstance(found, Wrong):
            for offset, message, hint in found.found:
                self._faults.append(record.fault(message, hint, cell=cell, offset=offset))
            return None
        return found  # type: ignore[return-value]  # what `read_` gave for this key

    # ── the four types of line ──

    def _set(self, record: Record) -> None:
        """Read `g2, report, set`."""
        member = self._cell(record, 1, self._pattern)
        set_ = self._cell(record, 2, grammar.report_set)
        if member is not None and set_ is not None:
            self.sets.setdefault((member, set_), place(record))

    def _membership(self, record: Record) -> None:
        """Read `g, member, role`."""
        member = self._cell(record, 1, grammar.member)
        role = self._cell(record, 2, grammar.role)
        if member is not None and role is not None:
            self.members.setdefault((member, role), place(record))

    def _access_rule(self, record: Record) -> None:
        """Read `p, subject, report, action, when, effect`."""
        principal = self._principal(record)
        alike = self._access_alike.get(record.cells[2:]) or self._access(record)
        if principal is not None and alike is not None:
            report, action, when, effect = alike
            self.access.append(
                AccessRule(
                    line=place(record),
                    principal=principal,
                    report=report,
                    action=action,
                    when=when,
                    effect=effect,
                )
            )

    def _access(self, record: Record) -> _Access | None:
        """What a `p` line says, but of whom."""
        report = self._cell(record, 2, self._pattern)
        action = self._cell(record, 3, _action)
        when = self._cell(record, 4, self._when)
        effect = self._cell(record, 5, _effect)
        if report is None or action is None or when is None or effect is None:
            return None
        found = self._access_alike[record.cells[2:]] = (report, action, when, effect)
        return found

    def _cell_rule(self, record: Record) -> None:
        """Read `p2, subject, report, rows, fields, treatment`."""
        principal = self._principal(record)
        _, _, pattern, text, named, form = record.cells
        alike = self._cells_alike.get((pattern, named, form))
        if alike is None:
            if self._cell(record, 2, self._pattern) is None:
                return
            alike = self._cells(record)
        rows = self._rows.get((pattern, text))
        if rows is None:
            rows = self._rows_of(record)
        if principal is not None and alike is not None and rows is not None:
            fields, treatment, action = alike
            (self.reveals if action is Action.REVEAL else self.cells).append(
                CellRule(
                    line=place(record),
                    principal=principal,
                    report=pattern,
                    rows=rows,
                    fields=fields,
                    treatment=treatment,
                    action=action,
                )
            )

    def _cells(self, record: Record) -> _Cells | None:
        """What a `p2` line says, but to whom and of which rows."""
        _, _, pattern, _, named, form = record.cells
        fields = self._cell(record, 4, self._fields, pattern)
        treatment = self._cell(record, 5, _treatment)
        if fields is None or treatment is None:
            return None
        if self._cell(record, 5, self._accepting, named, pattern) is None:
            return None
        if treatment == REVEAL:
            found: _Cells = fields, _CLEAR, Action.REVEAL
        else:
            found = fields, treatment if isinstance(treatment, Treatment) else None, Action.READ
        self._cells_alike[pattern, named, form] = found
        return found

    def _rows_of(self, record: Record) -> Rows | None:
        """The row condition of a `p2` line."""
        _, _, pattern, text, _, _ = record.cells
        between, literals = part(text)
        found = self._row_forms.get((pattern, between))
        read_ = found[0].read(text, literals) if found else None
        if found is None or read_ is None:
            forms = self._cell(record, 3, self._forms, pattern)
            if forms is None:
                return None
            # Literals are alike in all reports: one form tells of all.
            first = next(iter(forms.values()), None)
            if first is None:  # a set that only a faulty line fills
                return Rows(forms, ())
            found = self._row_forms[pattern, between] = first, forms
            read_ = first.own
        rows = self._rows[pattern, text] = Rows(found[1], read_)
        return rows

    def _principal(self, record: Record) -> str | None:
        """Whom a line is about."""
        text = record.cells[1]
        found = self._principals.get(text)
        if found is None:
            try:
                found = self._principals[text] = grammar.principal(text)
            except Wrong:
                return self._cell(record, 1, grammar.principal)
        return found

    # ── cells that depend on the catalogue ──

    def _pattern(self, text: str) -> str:
        return grammar.report_pattern(text, self._reports, self._filled)

    def _coverage(self) -> Mapping[str, tuple[Report, ...]]:
        """For each report pattern: the reports that it covers."""
        sets = Roles(self.sets)
        covered: dict[str, list[Report]] = {}
        for report in self._reports.values():
            for name in sets.closure(patterns(report.id)):
                covered.setdefault(name, []).append(report)
        return {name: tuple(reports) for name, reports in covered.items()}

    def _when(self, text: str) -> Condition:
        between, literals = part(text)
        form = self._when_forms.get(between)
        if form is None or (read_ := form.read(text, literals)) is None:
            scope = Scope(fields=None, elsewhere={}, attributes=self._attributes)
            form = self._when_forms[between] = _formed(text, scope)
            read_ = form.own
        return form.condition(read_)

    def _forms(self, text: str, pattern: str) -> Mapping[str, Form]:
        """The condition checked against each covered report's fields.

        A name that another covered report declares, but not this one, is unknown in this one.
        Reports that declare alike whatever the text can name share one form.
        """
        scopes = self._scopes(pattern)
        named = [
            name
            for name in dict.fromkeys(name for _, scope in scopes for name in scope.fields or ())
            if name in text or "'" in name
        ]
        found: dict[tuple[Type | None, ...], Form] = {}
        forms: dict[str, Form] = {}
        wrong: dict[tuple[int, str, str], None] = {}
        for report, scope in scopes:
            own = scope.fields or {}
            key = tuple([own.get(name) for name in named])
            try:
                if key not in found:
                    found[key] = _formed(text, scope)
                forms[report] = found[key]
            except Wrong as error:
                wrong.update(dict.fromkeys(error.found))
        if wrong:
            raise Wrong(*wrong)
        return forms

    def _scopes(self, pattern: str) -> Sequence[tuple[str, Scope]]:
        """The names that row conditions may use, for each report that a pattern covers."""
        scopes = self._row_scopes.get(pattern)
        if scopes is None:
            covered = self._covered.get(pattern, ())
            declared: dict[str, Type] = {}
            for report in covered:
                for field in report.fields.values():
                    declared.setdefault(field.name, field.type)
            scopes = []
            for report in covered:
                own = {field.name: field.type for field in report.fields.values()}
                elsewhere = {name: type_ for name, type_ in declared.items() if name not in own}
                scope = Scope(fields=own, elsewhere=elsewhere, attributes=self._attributes)
                scopes.append((report.id, scope))
            self._row_scopes[pattern] = scopes
        return scopes

    def _fields(self, text: str, pattern: str) -> Mapping[str, frozenset[str]]:
        return grammar.fields(text, self._covered.get(pattern, ()), self._classes)

    def _accepting(self, text: str, fields: str, pattern: str) -> bool:
        """True where the treatment takes the types of all fields that the line names.

        And where each report has the fields that the treatment itself names.
        """
        treatment = _treatment(text)
        if not isinstance(treatment, Treatment):
            return True
        covered = self._fields(fields, pattern)
        for report in self._covered.get(pattern, ()):
            for parameter, other in treatment.refers if covered[report.id] else ():
                if other not in report.fields:
                    message = f"`{parameter}` names `{other}`, which is no field of `{report.id}`"
                    named = f"its fields are {', '.join(f'`{name}`' for name in report.fields)}"
                    hint = grammar.nearest(other, report.fields, otherwise=named)
                    raise Wrong((form_place(text, parameter), message, hint))
            for name in report.fields:
                type_ = report.fields[name].type
                if name in covered[report.id] and type_ not in treatment.takes:
                    takes = ", ".join(sorted(treatment.takes))
                    message = f"`{text}` does not take `{name}` of `{report.id}`, which is {type_}"
                    raise Wrong((0, message, f"it takes {takes}; leave the field out of the line"))
        return True


def shaped(record: Record, faults: list[Fault]) -> bool:
    """Whether a record is of a known type and has its number of cells, none of them empty; else a fault."""
    kind = record.cells[0]
    shape = SHAPES.get(kind)
    if shape is None:
        hint = grammar.nearest(kind, SHAPES, otherwise="a line begins with `p`, `p2`, `g` or `g2`")
        faults.append(record.fault(f"unknown line type `{kind}`", hint))
        return False
    if len(record.cells) != len(shape) + 1:
        layout = f"{kind}, {', '.join(shape)}"
        faults.append(
            record.fault(
                f"a `{kind}` line has {len(shape) + 1} cells, this one has {len(record.cells)}",
                f"write `{layout}`",
                cell=min(len(record.cells), len(shape) + 1),
            )
        )
        return False
    if "" not in record.cells:
        return True
    hint = f"write `{kind}, {', '.join(shape)}`"
    for at, text in enumerate(record.cells):
        if not text:
            faults.append(record.fault(f"`{shape[at - 1]}` is missing", hint, cell=at))
    return False


def place(record: Record) -> Line:
    """Where a record stands, as decisions name it."""
    return Line(file=record.file, line=record.line)


def _action(text: str) -> Action:
    return Action(grammar.word(text, Action, "action"))


def _effect(text: str) -> Effect:
    return Effect(grammar.word(text, Effect, "effect"))


def _treatment(text: str) -> Treatment | str:
    """A treatment, or one of the words `deny` and `reveal`."""
    if text in (DENY, REVEAL):
        return text
    try:
        return parse(text)
    except BadTreatment as error:
        hint = grammar.nearest(text, (DENY, REVEAL)) or error.hint
        raise Wrong((error.offset, error.message, hint)) from None


def _formed(text: str, scope: Scope) -> Form:
    try:
        return Form(text, scope)
    except BadCondition as error:
        raise Wrong(*error.mistakes) from None
