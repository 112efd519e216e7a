"""`counterfoil policy explain`: why somebody gets what they get."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.catalogue import BadParameter, MalformedTarget, Target, parse_target
from proxy.cli.log import log_option, resolve_log_path, settings_option, visible
from proxy.cli.policy import event as of_event
from proxy.cli.policy.folder import FAULTY, policies, show
from proxy.errors import CounterfoilError, Faulty
from proxy.plan import Context, Deny, Permit
from proxy.policy.lines import WITHOUT_CELLS, Action
from proxy.review.explain import (
    Explanation,
    Form,
    Said,
    Seen,
    Usable,
    explain,
    explain_change,
    why_refused,
)
from proxy.snapshot import Snapshot, read_folder, snapshot_of
from proxy.subject import AttributeType, Subject
from proxy.values import Value, instant, scalar

_WIDE: Final = 4096
"""Columns of a table that no terminal shows: nothing is cut off."""
_BY_DEFAULT: Final = ("no-allow-line", "tool-may-not-act")
_PARAMETERS: Final = msgspec.json.Decoder(dict[str, str])
_SAID: Final = {
    Said.APPLIED: "green",
    Said.CONDITION_FALSE: "yellow",
    Said.CONDITION_UNKNOWN: "yellow",
}


@click.command("explain")
@click.argument("subject", default="")
@click.argument("method", default="")
@click.argument("path", default="")
@click.option(
    "--event", metavar="ID", help="Explain this access of the log instead, as it was then."
)
@click.option(
    "--policies",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder of policies.",
)
@click.option("--group", "groups", multiple=True, help="A group of the subject's; may be repeated.")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="NAME=VALUE",
    help="What the token says; a list as a|b.",
)
@click.option("--tool", help="The tool through which it asks.")
@click.option("--purpose", default="", help="The stated purpose.")
@click.option("--ip", default="127.0.0.1", show_default=True, help="Where it asks from.")
@click.option(
    "--as-of", "as_of", metavar="TIME", help="When it asks (RFC 3339); now where left out."
)
@log_option
@settings_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def explain_(
    *, event: str | None, log_file: Path | None, settings: Path,
    subject: str, method: str, path: str, folder: Path | None, groups: tuple[str, ...],
    attributes: tuple[str, ...], tool: str | None, purpose: str, ip: str, as_of: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Say what SUBJECT gets that asks METHOD PATH, and why: each line that counted or nearly did.

    PATH may have a query: then it says too whether its parameters may be used.

    With --event ID it is an access of the log, which a refused requester can name: the answer's header
    `Counterfoil-Event`. It is decided again by the policy and catalogue of then, with the groups, the
    tool, the purpose, the time and the address that are on record. Attributes of its token are not on
    record: give them with --attribute. Like `log query` this reads the log's file itself.

    SUBJECT is a name (alice) or tool:NAME. Groups and attributes of people.csv are taken; those of
    the token are given with --group and --attribute.

    Exit status: 0 permitted, 1 denied, 2 the policies are at fault.
    """
    if event is not None:
        if subject or folder is not None or groups or tool or purpose or as_of:
            raise click.UsageError(
                "with --event all of that is taken from the log; --attribute adds to it"
            )
        _explain_event(event, resolve_log_path(log_file, settings), attributes, as_json=as_json)
    if not path:
        raise click.UsageError("name SUBJECT METHOD PATH, or --event ID")
    where = policies(folder)
    files: dict[str, bytes] = {}
    try:
        files = read_folder(where)
        snapshot = snapshot_of(files)
    except Faulty as exc:
        for fault in exc.faults:
            show(fault, files, label="error", color="red")
        sys.exit(FAULTY)
    now = _time(as_of)
    who = _subject(snapshot, subject, groups, attributes, tool, now)
    try:
        target = parse_target(path)
    except MalformedTarget as exc:
        raise CounterfoilError(
            f"`{visible(path)}` is not a path that can be asked for: {exc}"
        ) from None
    route = snapshot.catalogue.route(target.path)
    if purpose and purpose not in snapshot.catalogue.purposes:
        listed = ", ".join(sorted(snapshot.catalogue.purposes)) or "none"
        raise CounterfoilError(f"`{visible(purpose)}` is not a catalogued purpose: {listed}")
    if route is None:
        click.echo(f"denied: no report is catalogued at {visible(path)}")
        known = sorted(v.path for r in snapshot.catalogue.reports.values() for v in r.variants)
        click.echo("paths: " + ", ".join(known))
        sys.exit(1)
    context = Context(
        attributes=who.attributes, now=now, date=now.date(), ip=ip, purpose=purpose,
        tool=(who.tool or "").removeprefix("tool:"), action=Action.READ, method=method.upper(),
    )  # fmt: skip
    found = explain(snapshot.policy, subject=who, report=route.report, context=context)
    refused = None
    if isinstance(found.decision, Permit):
        refused = _refused(snapshot, found.decision, found, target, method.upper())
    if as_json:
        document = _plain(found, who, route.report.id, context)
        click.echo(
            msgspec.json.encode(document | ({"refused": refused._asdict()} if refused else {}))
        )
    else:
        _print(found, who, route.report.id, context)
        if refused:
            click.echo(f"but the request is refused ({refused.status}): {visible(refused.why)}")
    sys.exit(0 if isinstance(found.decision, Permit) and refused is None else 1)


class _Refused(NamedTuple):
    """Why a request for a permitted report is refused all the same."""

    status: int
    why: str


def _refused(
    snapshot: Snapshot, permit: Permit, found: Explanation, target: Target, method: str
) -> _Refused | None:
    """What is wrong with the request itself; a target without a query is not asked for its parameters."""
    if method != "GET":
        return _Refused(405, f"{method}: reports can only be read")
    try:
        asked = snapshot.catalogue.ask(target, by=permit.subject.name).parameters
    except BadParameter as exc:
        known = ", ".join(permit.report.parameters) or "none"
        return _Refused(400, f"{exc}; parameters of this report: {known}") if target.query else None
    why = why_refused(found, permit, asked)
    return _Refused(403, why) if why else None


def _time(text: str | None) -> datetime:
    if text is None:
        return datetime.fromtimestamp(time.time(), UTC)
    found = instant(text)
    if found is None:
        raise CounterfoilError("`--as-of` is a time such as 2026-12-24T18:00Z")
    return found


def _subject(
    snapshot: Snapshot, name: str, groups: tuple[str, ...], attributes: tuple[str, ...],
    tool: str | None, now: datetime,
) -> Subject:  # fmt: skip
    given = _attributes(snapshot, attributes)
    typed = name if name.startswith(("user:", "tool:")) else f"user:{name}"
    through = None if tool is None else f"tool:{tool.removeprefix('tool:')}"
    found = snapshot.identities.subject_of(
        typed,
        groups=tuple(f"group:{group.removeprefix('group:')}" for group in groups) or None,
        attributes=given,
        tool=through,
        now=now.timestamp(),
    )
    if found is None:
        raise CounterfoilError(f"no issuer of subjects.yaml has a subject named `{visible(name)}`")
    return found


def _attributes(snapshot: Snapshot, attributes: tuple[str, ...]) -> dict[str, Value]:
    given: dict[str, Value] = {}
    for text in attributes:
        key, _, value = text.partition("=")
        declared = snapshot.identities.attributes.get(key)
        if declared is None:
            known = ", ".join(sorted(snapshot.identities.attributes)) or "none"
            raise CounterfoilError(f"`{visible(key)}` is not a declared attribute: {known}")
        given[key] = _value(key, value, declared)
    return given


def _explain_event(id_: str, log: Path, attributes: tuple[str, ...], *, as_json: bool) -> NoReturn:
    past, principal = of_event.find(id_, log)
    snapshot = of_event.snapshot_then(past, log)
    then = of_event.recall(past, principal, snapshot, _attributes(snapshot, attributes))
    found = _of_then(then)
    permitted = not isinstance(found.decision, Deny)
    if as_json:
        recorded = {
            "access": past.access, "started": past.started, "policy": past.policy, "decision": past.decision,
            "reason": past.reason, "cause": past.cause, "unknown": then.unknown,
        }  # fmt: skip
        document = _plain(found, then.subject, then.about, then.context) | {"event": recorded}
        click.echo(msgspec.json.encode(document))
    else:
        told = past.decision + (f" (cause {visible(past.cause)})" if past.cause else "")
        click.echo(f"at {past.started}, policy {past.policy[:12]}, on record: {told}")
        _print(found, then.subject, then.about, then.context)
        if read := [f"sub.{name}" for name in then.unknown if f"sub.{name}" in found.attributes]:
            click.echo(f"not on record, and so unknown here: {', '.join(read)}; see --attribute")
        if permitted and past.decision == "deny":
            why = ""
            if isinstance(found.decision, Permit) and past.cause == "hidden-field":
                parameters = _PARAMETERS.decode(past.parameters) if past.parameters else {}
                why = why_refused(found, found.decision, parameters)
            click.echo(
                f"the request was refused: {visible(why)}"
                if why
                else f"what refused it is no policy line: cause {visible(past.cause)}"
            )
    sys.exit(0 if permitted else 1)


def _of_then(then: of_event.Recalled) -> Explanation:
    policy, subject, context = then.snapshot.policy, then.subject, then.context
    if context.action in WITHOUT_CELLS:
        return explain_change(policy, subject=subject, reports=then.reports, context=context)
    return explain(policy, subject=subject, report=then.reports[0], context=context)


def _value(name: str, text: str, declared: AttributeType) -> Value:
    parts = [scalar(part, declared.type) for part in (text.split("|") if declared.many else [text])]
    known = [part for part in parts if part is not None]
    if len(known) != len(parts):
        raise CounterfoilError(f"`{name}` is {declared.type}{', a list as a|b' * declared.many}")
    return tuple(known) if declared.many else known[0]


def _print(found: Explanation, who: Subject, about: str, context: Context) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=_WIDE)
    decision = found.decision
    does = " reads" if context.action == Action.READ else f": {context.action} on"
    through = f" through {who.tool}" if who.user and who.tool else ""
    asked = visible(f"{who.name}{does} {about}{through}")
    if isinstance(decision, Deny):
        told = f"{decision.reason.status}, cause {decision.cause}"
        told += f" on {found.refused_on}" if found.refused_on else ""
        console.print(Text.assemble(("denied", "bold red"), f": {asked} ({told})"))
    else:
        console.print(Text.assemble(("permitted", "bold green"), f": {asked}"))
    if who.groups:
        console.print(f"  groups: {', '.join(map(visible, who.groups))}")
    for name in found.attributes:
        value = context.attributes.get(name.removeprefix("sub."))
        shown = "unknown: no token or file says it" if value is None else _shown(value)
        console.print(Text(f"  {name} = {visible(shown)}"))
    _print_lines(console, found)
    if found.fields:
        _print_fields(console, found.fields)
    if found.sorted_for:
        hidden = visible(", ".join(found.sorted_for))
        console.print(
            f"\nRows are sorted anew: the store orders them by {hidden}, not clear in every row."
        )
    if found.parameters:
        _print_parameters(console, found.parameters)


def _shown(value: Value) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | frozenset | list) else str(value)


def _print_lines(console: Console, found: Explanation) -> None:
    table = Table("line", "who", "action", "when", "effect", "", box=None, pad_edge=False)
    for each in sorted(found.lines, key=lambda line: line.said is not Said.APPLIED):
        table.add_row(
            *map(Text, map(visible, (str(each.line), each.principal, each.action, each.when, each.effect))),
            Text(each.said, style=_SAID.get(each.said, "dim")),
        )  # fmt: skip
    console.print("\nAccess:" if found.lines else "\nAccess: no `p` line is about this report.")
    if found.lines:
        console.print(table)
    if isinstance(found.decision, Deny) and found.decision.cause in _BY_DEFAULT:
        console.print("What no line allows is denied.")


def _print_fields(console: Console, fields: tuple[Seen, ...]) -> None:
    table = Table("form", "in rows where", "fields", "why", box=None, pad_edge=False)
    alike: dict[tuple[tuple[Form, ...], str], list[str]] = {}
    for seen in fields:
        key = ((), seen.why_absent) if seen.why_absent else (seen.forms, "")
        alike.setdefault(key, []).append(visible(seen.field))
    for (forms, why_absent), names in alike.items():
        shown = ", ".join(names)
        if why_absent:
            table.add_row(Text("absent", style="red"), "", Text(shown), Text(visible(why_absent)))
        for form in forms:
            rows = "every row" if form.rows == "true" else visible(form.rows)
            style = "dim" if form.why_not else "red" if form.form == "deny" else "green"
            why = ", ".join(map(str, form.lines))
            if form.why_not:
                why = f"not given: {form.why_not} ({why})"
            table.add_row(Text(visible(form.form), style=style), Text(rows), Text(shown), Text(why))
            shown = "″"
    console.print("\nCells; of several forms the first whose rows match is given, and a deny wins:")
    console.print(table)


def _print_parameters(console: Console, parameters: tuple[Usable, ...]) -> None:
    table = Table("parameter", "by", "fields", "", box=None, pad_edge=False)
    for each in parameters:
        refused = ("refused: " if each.never else "refused with ") + "; ".join(
            f"{field}, {why}" for field, why in each.hidden
        )
        table.add_row(
            visible(each.parameter), each.by, Text(visible(", ".join(each.looks_at))),
            Text(visible(refused), style="yellow") if each.hidden else Text("may be used", style="green"),
        )  # fmt: skip
    console.print("\nParameters; each field that one looks at must be clear in every row:")
    console.print(table)


def _plain(found: Explanation, who: Subject, about: str, context: Context) -> dict[str, Any]:
    decision = found.decision
    return {
        "subject": who.name,
        "groups": who.groups,
        "action": context.action,
        "report": about,
        "refused_on": found.refused_on,
        "decision": "deny" if isinstance(decision, Deny) else "permit",
        "cause": decision.cause if isinstance(decision, Deny) else "",
        "status": decision.reason.status if isinstance(decision, Deny) else 200,
        "lines": [
            {
                "line": str(each.line), "principal": each.principal, "action": each.action,
                "when": each.when, "effect": each.effect, "said": each.said.value,
            }
            for each in found.lines
        ],
        "fields": [
            {
                "field": seen.field, "class": seen.class_, "absent": seen.why_absent,
                "forms": [
                    {
                        "form": form.form, "rows": form.rows, "lines": [*map(str, form.lines)],
                        "why_not": form.why_not,
                    }
                    for form in seen.forms
                ],
            }
            for seen in found.fields
        ],
        "sorted_for": found.sorted_for,
        "parameters": [
            {
                "parameter": each.parameter, "by": each.by, "fields": each.looks_at, "never": each.never,
                "hidden": [{"field": field, "why": why} for field, why in each.hidden],
            }
            for each in found.parameters
        ],
    }  # fmt: skip
