"""`counterfoil grant`, `revoke` and `lockdown`: asked of the running server, with a token."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Final

import click
import msgspec

from proxy.cli.log import visible
from proxy.cli.server import NO_JSON, Connection, Refused, document, server_options
from proxy.errors import CounterfoilError
from proxy.stated import LONGEST, MOST_REASON, SHORTEST, plain

_DURATION: Final = re.compile(r"([0-9]{1,6})([mhdw])\Z")
_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_ID: Final = re.compile(r"[0-9a-f]{32}\Z")

_NO_GRANTEE: Final = re.compile(r"(?:group|role|set):|anyone\Z|(?:(?:user|tool):)?\s*\Z")


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the server answers."""

    id: str
    policy: str
    until: str = ""
    warnings: list[str] = []
    pending: int = 0


class _Grantee(click.ParamType[str]):
    """Who is given something: a user's name, `user:…` or `tool:…`; as a principal."""

    name = "subject"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Give the principal."""
        text = str(value)
        if _NO_GRANTEE.match(text):
            self.fail("a grant is for a user or a tool: NAME, user:NAME or tool:NAME", param, ctx)
        return text if text.startswith(("user:", "tool:")) else f"user:{text}"


class _Duration(click.ParamType[int]):
    """How long: `30m`, `2h`, `3d`, `1w`; in seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Give the seconds."""
        if isinstance(value, int):
            return value
        matched = _DURATION.match(str(value))
        if matched is None:
            self.fail("write how long: 30m, 2h, 3d, 1w", param, ctx)
        seconds = int(matched[1]) * _UNITS[matched[2]]
        if not SHORTEST <= seconds <= LONGEST:
            self.fail("a grant lasts from 1m to 366d", param, ctx)
        return seconds


class _Reason(click.ParamType[str]):
    """Why something is done: a text that says something."""

    name = "text"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Give the text."""
        text = str(value)
        if not plain(text) or len(text) > MOST_REASON:
            self.fail(f"a reason has 1 to {MOST_REASON} characters", param, ctx)
        return text


@click.command()
@click.argument("subject", type=_Grantee())
@click.argument("report")
@click.option("--as", "role", required=True, help="The role whose view is given: role:analyst.")
@click.option("--for", "seconds", type=_Duration(), required=True, help="30m, 2h, 3d, 1w.")
@click.option("--reason", type=_Reason(), required=True, help="Why; it is kept in the access log.")
@server_options
def grant(subject: str, report: str, role: str, seconds: int, reason: str, **server: Any) -> None:
    """Give SUBJECT, for a time, what a role gives on REPORT; prints the grant's id.

    SUBJECT is a user's name, or user:… or tool:…. The server decides whether you may (action `grant`
    on the report), puts it on record, and answers when it is in force.
    """
    body = {
        "subject": subject,
        "report": report,
        "role": role,
        "seconds": seconds,
        "reason": reason,
    }
    said = _ask("POST", "/-/grants", body, **server)
    _tell(said, f"until {said.until}")
    for warning in said.warnings:
        click.secho(f"warning: {visible(warning)}", fg="yellow", err=True)


@click.command()
@click.argument("grant_id")
@server_options
def revoke(grant_id: str, **server: Any) -> None:
    """End a grant before its time; who could have made it may end it."""
    said = _end("grant", grant_id, **server)
    _tell(said, "revoked")


@click.command()
@click.argument("reports", required=False)
@click.option("--reason", type=_Reason(), help="Why; it is kept in the access log.")
@click.option("--lift", default="", metavar="ID", help="End the lockdown of this id instead.")
@server_options
def lockdown(reports: str | None, reason: str | None, lift: str, **server: Any) -> None:
    """Refuse REPORTS (an id, prefix/*, or a set:) to everybody, from now on, until it is lifted.

    Answers that are under way are cut. The server decides whether you may (action `lockdown` on each
    of the reports), puts it on record, and answers when it is in force; prints the lockdown's id.
    """
    if bool(reports) == bool(lift) or bool(reports) != bool(reason):
        raise click.UsageError("give REPORTS and --reason, or --lift ID")
    if lift:
        said = _end("lockdown", lift, **server)
        _tell(said, "lifted")
    else:
        said = _ask("POST", "/-/lockdowns", {"reports": reports, "reason": reason}, **server)
        _tell(said, "in force")


def _tell(said: _Said, what: str) -> None:
    click.echo(visible(f"{said.id}  {what}, policy {said.policy[:12]}"))


def _end(kind: str, id_: str, **server: Any) -> _Said:
    if _ID.match(id_) is None:
        raise CounterfoilError("an id is the 32 hexadecimal digits that the command printed")
    try:
        return _ask("DELETE", f"/-/{kind}s/{id_}", None, **server)
    except Refused as exc:
        if exc.status != HTTPStatus.NOT_FOUND:
            raise
        raise CounterfoilError(
            f"there is no {kind} {id_}, or it is not yours to end. Event {exc.event}"
        ) from exc


def _ask(method: str, path: str, body: object, **server: Any) -> _Said:
    """What the server answers; raises CounterfoilError with its reason where it refuses."""
    asked = Connection(**server).ask(method, path, None if body is None else document(body))
    try:
        said = msgspec.convert(asked, _Said)
    except NO_JSON as exc:
        raise CounterfoilError(
            "the server does not answer as Counterfoil does: see in its log whether that was done"
        ) from exc
    if said.pending:
        text = f"warning: {said.pending} of the server's workers have not taken it yet; they go on trying"
        click.secho(text, fg="yellow", err=True)
    return said
