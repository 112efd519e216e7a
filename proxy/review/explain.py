"""Why a subject gets what it gets of a report: each line that counted, and each that nearly did.

The decision itself is made by the policy decision point, as for a request. What is added here looks
at the same lines again to say why; where the two disagreed, the decision would be what holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from proxy.plan import Column, Context, Decision, Line, Permit
from proxy.policy.decide import decide, refusal
from proxy.policy.index import Policy, Standing
from proxy.policy.lines import AccessRule, Action, CellRule, Effect
from proxy.report import By, Parameter, Report
from proxy.review.words import rows_in_words, why_not
from proxy.subject import Subject


class Said(StrEnum):
    """What a line did to the decision."""

    APPLIED = "applied"
    CONDITION_FALSE = "condition false"
    CONDITION_UNKNOWN = "condition unknown"
    ANOTHER_PRINCIPAL = "about somebody else"
    ANOTHER_ACTION = "about another action"


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """One `p` line about the report."""

    line: Line
    principal: str
    action: str
    when: str
    effect: str
    said: Said
    why: str = ""
    """Which part of its condition is false or unknown, where one is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """One form in which a field is given, or hidden, and for which rows."""

    form: str
    """A treatment, `deny`, or `reveal` where that is what was asked."""
    rows: str
    """The condition; `true` for every row."""
    where: str
    """In words, for this request: `every row`, `rows whose …`, or `no row` and why."""
    lines: tuple[Line, ...]
    why_not: str = ""
    """Why it is never given; '' where it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One field of the report as the requester sees it."""

    field: str
    type: str
    class_: str
    forms: tuple[Form, ...]
    """Most preferred first; empty: the field is absent."""
    why_absent: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Usable:
    """One parameter of the report, and what keeps the requester from it."""

    parameter: str
    by: str
    looks_at: tuple[str, ...]
    """Its fields; of an order or a group those that its value may name, of a page none."""
    hidden: tuple[tuple[str, str], ...]
    """(field, why): what it is refused for."""
    never: bool
    """Whether it is refused whatever its value is."""
    most: int = 0
    """Of a limit or an offset: the largest value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """A decision, and what led to it."""

    decision: Decision | None
    """None: it is permitted, and gives no cells."""
    lines: tuple[Access, ...] = ()
    fields: tuple[Seen, ...] = ()
    """Empty where it is a denial, or gives no cells."""
    parameters: tuple[Usable, ...] = ()
    """Likewise."""
    sorted_for: tuple[str, ...] = ()
    """Hidden fields on which the store's order depends, so that rows are sorted anew; likewise."""
    attributes: tuple[str, ...] = ()
    """The attributes `sub.*` that conditions of these lines look at."""
    refused_on: str = ""
    """Of several reports the first that is denied."""


def explain(policy: Policy, *, subject: Subject, report: Report, context: Context) -> Explanation:
    """What `policy` decides on a request, and why."""
    decision = decide(policy, subject=subject, report=report, context=context)
    standing = policy.standing(subject)
    rules = _rules(policy, (report,))
    cells = [row for row in policy.cells_to(context.action) if report.id in row.rows]
    held = [row for row in cells if _holds(standing, row)]
    texts = {rule.when.types for rule in rules} | {row.rows[report.id].types for row in held}
    attributes = {name for types in texts for name, _ in types if name.startswith("sub.")}
    fields: tuple[Seen, ...] = ()
    parameters: tuple[Usable, ...] = ()
    sorted_for: tuple[str, ...] = ()
    if isinstance(decision, Permit):
        others = [row for row in cells if not standing.asking.holds(row.principal, Effect.ALLOW)]
        fields = tuple(_fields(report, decision, held, others, context))
        if context.action == Action.READ:
            parameters = tuple(_parameters(report, decision, fields))
            clear = decision.plan.clear
            sorted_for = tuple(each for each in report.ordered_by if each not in clear)
    return Explanation(
        decision=decision,
        lines=tuple(_access(standing, rule, context) for rule in rules),
        fields=fields,
        parameters=parameters,
        sorted_for=sorted_for,
        attributes=tuple(sorted(attributes)),
    )


def explain_change(
    policy: Policy, *, subject: Subject, reports: Sequence[Report], context: Context
) -> Explanation:
    """Why somebody may, or may not, do what gives no cells to all of `reports`."""
    denials = {
        report.id: refusal(policy, subject=subject, report=report, context=context)
        for report in reports
    }
    refused_on = next((name for name, deny in denials.items() if deny is not None), "")
    rules = _rules(policy, reports)
    names = {name for rule in rules for name, _ in rule.when.types if name.startswith("sub.")}
    standing = policy.standing(subject)
    return Explanation(
        decision=denials.get(refused_on),
        lines=tuple(_access(standing, rule, context) for rule in rules),
        attributes=tuple(sorted(names)),
        refused_on=refused_on if len(reports) > 1 else "",
    )


def _rules(policy: Policy, reports: Sequence[Report]) -> list[AccessRule]:
    names = frozenset().union(*(policy.covering(report.id) for report in reports))
    return [rule for rule in policy.access if rule.report in names]


def why_refused(found: Explanation, permit: Permit, parameters: Mapping[str, str]) -> str:
    """Why a request with these (canonical) parameters is refused; '' where it is not."""
    for usable in found.parameters:
        value = parameters.get(usable.parameter)
        if value is not None:
            hides = permit.plan.hides(permit.report.parameters[usable.parameter], value)
            for field, why in usable.hidden:
                if field in hides:
                    return f"{usable.parameter} looks at {field}, which is {why}"
    return ""


def _access(standing: Standing, rule: AccessRule, context: Context) -> Access:
    requester, why = standing.acting if rule.action == "act" else standing.asking, ""
    if rule.action not in (context.action, "act") or requester is None:
        said = Said.ANOTHER_ACTION
    elif not requester.holds(rule.principal, rule.effect):
        said = Said.ANOTHER_PRINCIPAL
    else:
        truth = rule.when.holds(context)
        why = "" if truth is True else why_not(rule.when, context)
        if truth is None and rule.effect is Effect.DENY:
            said, why = Said.APPLIED, f"a deny counts where its condition is unknown: {why}"
        elif truth is True:
            said = Said.APPLIED
        else:
            said = Said.CONDITION_UNKNOWN if truth is None else Said.CONDITION_FALSE
    return Access(
        line=rule.line,
        principal=rule.principal,
        action=rule.action,
        when=rule.when.text,
        effect=rule.effect,
        said=said,
        why=why,
    )


def _holds(standing: Standing, row: CellRule) -> bool:
    return standing.asking.holds(row.principal, _effect(row))


def _effect(row: CellRule) -> Effect:
    return Effect.DENY if row.treatment is None else Effect.ALLOW


def _fields(
    report: Report,
    permit: Permit,
    held: list[CellRule],
    others: list[CellRule],
    context: Context,
) -> Iterator[Seen]:
    """Each field; `others` are the lines about whom the requester is not."""
    columns = {column.field.name: column for column in permit.plan.columns}
    for field in report.fields.values():
        column = columns.get(field.name)
        own = [row for row in held if field.name in row.fields[report.id]]
        forms = tuple(_forms(report, permit, column, own, context))
        given = any(not each.why_not and each.form != "deny" for each in forms)
        yield Seen(
            field=field.name,
            type=field.type,
            class_=field.class_,
            forms=forms,
            why_absent="" if given else _why_absent(field.name, report, forms, others),
        )


def _forms(
    report: Report, permit: Permit, column: Column | None, own: list[CellRule], context: Context
) -> Iterator[Form]:
    chosen: dict[tuple[str, str], int] = {}
    for number, choice in enumerate(column.choices if column is not None else ()):
        key = (str(choice.treatment), permit.plan.predicates[choice.when].text)
        chosen[key] = number
    grouped: dict[tuple[str, str], list[CellRule]] = {}
    for row in own:
        form = "deny" if row.treatment is None else str(row.treatment)
        grouped.setdefault((form, row.rows[report.id].text), []).append(row)
    over = {row.rows[report.id].text for row in own if row.rows[report.id].is_over(context)}
    denied = any(form == "deny" and rows == "true" for form, rows in grouped)

    def place(key: tuple[str, str]) -> tuple[int, int]:
        return (0 if key[0] == "deny" else 1 if key in chosen else 2, chosen.get(key, 0))

    for key in sorted(grouped, key=place):
        form, rows = key
        why_not = ""
        if rows == "false":
            why_not = "its condition is false"
        elif rows in over:
            why_not = "its condition is false at this time, in every row"
        elif form != "deny" and denied:
            why_not = "a deny wins"
        elif form != "deny" and key not in chosen:
            why_not = "a preferred form is given wherever this one could be"
        condition, effect = grouped[key][0].rows[report.id], _effect(grouped[key][0])
        yield Form(
            form=Action.REVEAL if grouped[key][0].action is Action.REVEAL else form,
            rows=rows,
            where=rows_in_words(condition, context, effect),
            lines=tuple([row.line for row in grouped[key]]),
            why_not=why_not,
        )


def _why_absent(field: str, report: Report, forms: tuple[Form, ...], others: list[CellRule]) -> str:
    """Why nothing gives a field: first what of the requester's own lines does not, and why."""
    denying = [each.lines[0] for each in forms if each.form == "deny" and each.rows == "true"]
    if denying:
        return f"denied by {denying[0]}"
    own = [
        f"{each.form} is not given: {each.why_not} ({', '.join(map(str, each.lines))})"
        for each in forms
        if each.form != "deny"
    ]
    granting = [row for row in others if row.treatment and field in row.fields[report.id]]
    principals = ", ".join(dict.fromkeys(row.principal for row in granting))
    granted = [f"it is granted to {principals}"] if granting else []
    if own:
        return "; ".join([*own, *granted])
    return (
        "; ".join(["no line grants it", *granted]) if granted else "no line grants it, to anybody"
    )


def _parameters(report: Report, permit: Permit, fields: tuple[Seen, ...]) -> Iterator[Usable]:
    seen = {each.field: each for each in fields}
    for parameter in report.parameters.values():
        values = [word for word, _ in parameter.words] or [""]
        hides = [permit.plan.hides(parameter, each) for each in values]
        hidden = frozenset[str]().union(*hides)
        yield Usable(
            parameter=parameter.name,
            by=parameter.by,
            looks_at=tuple(name for name in report.fields if name in parameter.looks_at),
            hidden=tuple(
                (name, _why_hidden(seen[name], parameter))
                for name in report.fields
                if name in hidden
            ),
            never=all(hides),
            most=parameter.most,
        )


def _why_hidden(seen: Seen, parameter: Parameter) -> str:
    """Why a field is not clear in every row; for a group, of the report's."""
    if seen.why_absent:
        return f"absent: {seen.why_absent}"
    for form in seen.forms:
        lines = ", ".join(map(str, form.lines))
        if form.why_not:
            continue
        if form.form == "deny":
            return f"hidden where {form.rows} ({lines})"
        if form.form != "clear":
            return f"given as {form.form} ({lines})"
    rows = " or ".join(form.rows for form in seen.forms if not form.why_not)
    if parameter.by is By.GROUP:
        return f"clear only where {rows}, and groups are made of every row"
    return f"clear only where {rows}, and other rows are given too"
