"""`counterfoil policy explain`: why somebody gets what they get."""

from __future__ import annotations

import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec

from proxy.audit import End, Past
from proxy.catalogue import BadParameter, MalformedTarget, Target, parse_target
from proxy.cli.log import log_option, resolve_log_path, settings_option, visible
from proxy.cli.operated import note
from proxy.cli.policy import event as of_event
from proxy.cli.policy import explained
from proxy.cli.policy.explained import Answer, Explained
from proxy.cli.policy.folder import FAULTY, faulty, policies
from proxy.errors import CounterfoilError, Faulty
from proxy.plan import Context, Deny, Permit
from proxy.policy.conditions.address import address
from proxy.policy.lines import Action
from proxy.reasons import Reason
from proxy.review.ended import Cut
from proxy.review.explain import Explanation, explain, why_refused
from proxy.snapshot import Snapshot, read_folder, snapshot_of
from proxy.subject import AttributeType, Subject
from proxy.values import Value, instant, scalar

_PARAMETERS: Final = msgspec.json.Decoder(dict[str, str])
_NO_SUBJECT: Final = re.compile(r"(?:group|role|set):|(?:anyone)?\Z")
"""What is no subject, unless it is written as `user:…`."""
_METHODS: Final = ("GET", "HEAD")
_REVEAL: Final = "REVEAL"
"""No method: what stands in the place of one to ask for action `reveal`."""
"""What reports are asked by."""
_STATUS: Final = {reason.slug: reason.status for reason in Reason}


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

    PATH may have a query: then it says too whether its parameters may be used. METHOD is GET or HEAD, or
    REVEAL for what it may have back of what is encrypted or tokenised in the report at PATH.

    With --event ID it is an access of the log, which a refused requester can name: the answer's header
    `Counterfoil-Event`. It is decided again by the policy and catalogue of then, with the groups, the
    tool, the purpose, the time and the address that are on record. Of an answer that was cut, or ran on
    over a change of policy, it is said too under which version it ended, and what cut it. Attributes
    of its token are not on record: give them with --attribute. Like `log query` this reads the log's
    file itself, which is on record as the operator's.

    SUBJECT is a name (alice) or tool:NAME. Groups and attributes of people.csv are taken; those of
    the token are given with --group and --attribute.

    Exit status: 0 permitted, 1 refused, 2 it cannot be told: policies are at fault, or something that
    is named here is not there.
    """
    if event is not None:
        if subject or folder is not None or groups or tool or purpose or as_of:
            raise click.UsageError(
                "with --event all of that is taken from the log; --attribute adds to it"
            )
    elif not path:
        raise click.UsageError("name SUBJECT METHOD PATH, or --event ID")
    try:
        if event is not None:
            log = resolve_log_path(log_file, settings)
            note("policy explain --event", settings, log_file)
            permitted = _explain_event(event, log, attributes, as_json=as_json)
        else:
            where = policies(folder, settings)
            snapshot, now = _snapshot(where, as_json=as_json), _time(as_of)
            if address(ip) is None:
                raise CounterfoilError(f"`{visible(ip)}` is not an address: 10.0.0.7, 2001:db8::1")
            who = _subject(snapshot, subject, groups, attributes, tool, now)
            if purpose and purpose not in snapshot.catalogue.purposes:
                listed = ", ".join(sorted(snapshot.catalogue.purposes)) or "none"
                raise CounterfoilError(
                    f"`{visible(purpose)}` is not a catalogued purpose: {listed}"
                )
            action = Action.REVEAL if method.upper() == _REVEAL else Action.READ
            context = Context(
                attributes=who.attributes, now=now, date=now.date(), ip=ip, purpose=purpose,
                tool=(who.tool or "").removeprefix("tool:"), action=action,
                method="POST" if action is Action.REVEAL else method.upper(),
            )  # fmt: skip
            permitted = _explain(snapshot, who, context, path, as_json=as_json)
    except CounterfoilError as exc:
        click.echo(f"counterfoil: {exc}", err=True)
        sys.exit(FAULTY)
    sys.exit(0 if permitted else 1)


def _snapshot(where: Path, *, as_json: bool) -> Snapshot:
    files: dict[str, bytes] = {}
    try:
        files = read_folder(where)
        return snapshot_of(files)
    except Faulty as exc:
        faulty(exc.faults, files, as_json=as_json)


def _explain(
    snapshot: Snapshot, who: Subject, context: Context, path: str, *, as_json: bool
) -> bool:
    """Explain a request that could be made; whether it is permitted."""
    try:
        target = parse_target(path)
    except MalformedTarget as exc:
        raise CounterfoilError(
            f"`{visible(path)}` is not a path that can be asked for: {exc}"
        ) from None
    route = snapshot.catalogue.route(target.path)
    if route is None:
        _tell_unknown(snapshot, who, context, path, as_json=as_json)
        return False
    found = explain(snapshot.policy, subject=who, report=route.report, context=context)
    made = Explained(
        who=who, about=route.report.id, context=context, found=found,
        answer=_answer(snapshot, found, who, target, context),
    )  # fmt: skip
    if as_json:
        click.echo(msgspec.json.encode(explained.document(made)))
    else:
        explained.show(made)
    return made.answer.permitted


def _tell_unknown(
    snapshot: Snapshot, who: Subject, context: Context, path: str, *, as_json: bool
) -> None:
    deny = Deny(reason=Reason.NOT_FOUND, cause="unknown-report")
    known = sorted(v.path for r in snapshot.catalogue.reports.values() for v in r.variants)
    if as_json:
        made = Explained(
            who=who, about="", context=context, found=Explanation(decision=deny),
            answer=Answer(status=deny.reason.status, cause=deny.cause),
        )  # fmt: skip
        click.echo(msgspec.json.encode({**explained.document(made), "paths": known}))
    else:
        click.echo(f"denied: no report is catalogued at {visible(path)}")
        click.echo("paths: " + ", ".join(known))


def _answer(
    snapshot: Snapshot, found: Explanation, who: Subject, target: Target, context: Context
) -> Answer:
    """What the proxy answers, in the order in which it looks.

    A target without a query is not asked for its parameters.
    """
    decision, parameters = found.decision, {}
    if isinstance(decision, Deny) and decision.reason is not Reason.PURPOSE:
        return Answer(status=decision.reason.status, cause=decision.cause)
    if context.action == Action.REVEAL:
        if isinstance(decision, Deny):
            return Answer(status=decision.reason.status, cause=decision.cause)
        return Answer()
    method = context.method
    if method not in _METHODS:
        why = f"{method}: reports can only be read"
        return Answer(status=Reason.METHOD.status, cause="method", why=why)
    try:
        parameters = dict(snapshot.catalogue.ask(target, by=who.name).parameters)
    except BadParameter as exc:
        if target.query:
            route = snapshot.catalogue.route(target.path)
            known = ", ".join(route.report.parameters if route else ()) or "none"
            clear = decision.plan.clear if isinstance(decision, Permit) else ()
            wrong = exc.help(clear).rstrip(".") or exc.cause
            why = f"{wrong}; parameters of this report: {known}"
            return Answer(status=Reason.PARAMETER.status, cause=exc.cause, why=why)
    if isinstance(decision, Deny):
        return Answer(status=decision.reason.status, cause=decision.cause)
    if isinstance(decision, Permit) and (why := why_refused(found, decision, parameters)):
        return Answer(status=Reason.PARAMETER_FORBIDDEN.status, cause="hidden-field", why=why)
    return Answer()


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
    if _NO_SUBJECT.match(name):
        raise CounterfoilError(
            f"`{visible(name)}` asks for nothing: name a user or a tool, and what it holds by --group"
        )
    given = _attributes(snapshot, attributes)
    typed = name if name.startswith(("user:", "tool:")) else f"user:{name}"
    if tool is not None and typed.startswith("tool:"):
        raise CounterfoilError("a tool that asks by itself asks through no other: leave out --tool")
    claimed = tuple(f"group:{group.removeprefix('group:')}" for group in groups)
    found = snapshot.identities.subject_of(
        typed,
        groups=claimed or None,
        attributes=given,
        tool=None if tool is None else f"tool:{tool.removeprefix('tool:')}",
        now=now.timestamp(),
    )
    if found is None:
        raise CounterfoilError(f"no issuer of subjects.yaml has a subject named `{visible(name)}`")
    left_out = [f"`{key}`" for key, value in given.items() if found.attributes.get(key) != value]
    left_out += ["its groups"] * (not set(claimed) <= set(found.groups))
    if left_out:
        raise CounterfoilError(
            f"{', '.join(left_out)}: not what the token of {visible(typed)} says counts, but people.csv"
            " (see `source` in subjects.yaml)"
        )
    return found


def _attributes(snapshot: Snapshot, attributes: tuple[str, ...]) -> dict[str, Value]:
    given: dict[str, Value] = {}
    for text in attributes:
        key, _, value = text.partition("=")
        declared = snapshot.identities.attributes.get(key)
        if declared is None:
            known = ", ".join(sorted(snapshot.identities.attributes)) or "none"
            raise CounterfoilError(f"`{visible(key)}` is not a declared attribute: {known}")
        if key in given:
            raise CounterfoilError(f"`{key}` is named twice; a list is written as a|b")
        given[key] = _value(key, value, declared)
    return given


def _explain_event(id_: str, log: Path, attributes: tuple[str, ...], *, as_json: bool) -> bool:
    """Explain an access of the log; whether it was permitted."""
    try:
        past, end, principal = of_event.find(id_, log)
        snapshot = of_event.snapshot_then(past, log)
        named = _attributes(snapshot, attributes)
        then = of_event.recall(past, principal, snapshot, named)
    except of_event.DecidedBefore as exc:
        if as_json:
            status = _STATUS.get(exc.past.reason, 0)
            answer = {"decision": "deny", "cause": exc.past.cause, "status": status}
            click.echo(msgspec.json.encode({**answer, "event": _recorded(exc.past)}))
        else:
            click.echo(str(exc))
        return False
    found = of_event.explained(then)
    made = Explained(
        who=then.subject, about=then.about, context=then.context, found=found,
        answer=answered(past, found),
    )  # fmt: skip
    anew = "deny" if isinstance(found.decision, Deny) else "permit"
    cut = of_event.cut(then, end, named, log)
    if as_json:
        event = {**_recorded(past), "unknown": then.unknown, "anew": anew, "end": _ended(end, cut)}
        click.echo(msgspec.json.encode({**explained.document(made), "event": event}))
        return made.answer.permitted
    told = past.decision + (f" (cause {visible(past.cause)})" if past.cause else "")
    click.echo(f"at {past.started}, policy {past.policy[:12]}, on record: {told}")
    if past.decision == "permit" and (end.policy, end.outcome) != (past.policy, "whole"):
        word = "cut" if cut else "ended" if end.outcome == "whole" else "last on record"
        click.echo(f"{word} at {end.at}, under policy {end.policy[:12]}: {end.outcome}")
    if cut:
        click.echo(f"what cut it: {visible(cut.why)}")
    explained.show(made)
    if made.answer.permitted and isinstance(found.decision, Deny):
        click.echo(f"with what is known here it would be denied: cause {found.decision.cause}")
    if read := [f"sub.{name}" for name in then.unknown if f"sub.{name}" in found.attributes]:
        click.echo(f"not on record, and so unknown here: {', '.join(read)}; see --attribute")
    return made.answer.permitted


def _recorded(past: Past) -> dict[str, object]:
    return {
        "access": past.access, "started": past.started, "policy": past.policy, "decision": past.decision,
        "reason": past.reason, "cause": past.cause,
    }  # fmt: skip


def _ended(end: End, cut: Cut | None) -> dict[str, object]:
    by = {"why": cut.why, "cut_by": [*map(str, cut.lines)]} if cut else {}
    return {**end._asdict(), **by}


def answered(past: Past, found: Explanation) -> Answer:
    """What was answered then: it is on record."""
    if past.decision == "permit":
        return Answer()
    why = ""
    if isinstance(found.decision, Permit) and past.cause == "hidden-field":
        parameters = _PARAMETERS.decode(past.parameters) if past.parameters else {}
        why = why_refused(found, found.decision, parameters)
    if not isinstance(found.decision, Deny):
        by_lines = past.reason in (Reason.NOT_FOUND.slug, Reason.PURPOSE.slug)
        why = why or (
            "with what is known here it would be permitted"
            if by_lines
            else f"what refused it is no policy line: cause {past.cause}"
        )
    return Answer(status=_STATUS.get(past.reason, 0), cause=past.cause or past.reason, why=why)


def _value(name: str, text: str, declared: AttributeType) -> Value:
    parts = [scalar(part, declared.type) for part in (text.split("|") if declared.many else [text])]
    known = [part for part in parts if part is not None]
    if len(known) != len(parts):
        raise CounterfoilError(f"`{name}` is {declared.type}{', a list as a|b' * declared.many}")
    return tuple(known) if declared.many else known[0]
