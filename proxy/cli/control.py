"""`counterfoil grant`, `revoke` and `lockdown`: asked of the running server, with a token."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import click
import msgspec

from proxy.cli.log import visible
from proxy.errors import CounterfoilError
from proxy.policy.granting import LONGEST, MOST_REASON, SHORTEST, plain

_SECONDS: Final = 60.0
_MOST: Final = 1 << 20
_DURATION: Final = re.compile(r"([0-9]{1,6})([mhdw])\Z")
_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_ID: Final = re.compile(r"[0-9a-f]{32}\Z")

_NO_GRANTEE: Final = re.compile(r"(?:group|role|set):|anyone\Z|(?:(?:user|tool):)?\s*\Z")

F = TypeVar("F")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Said:
    """What the server answers, fit to be shown."""

    id: str
    policy: str
    until: str
    warnings: list[str]


class _Refused(CounterfoilError):
    """The server's refusal, in its words."""

    def __init__(self, text: str, *, status: int, event: str) -> None:
        self.status = status
        self.event = event
        super().__init__(text)


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


def _server_options(command: F) -> F:
    for option in (
        click.option(
            "--ca",
            type=click.Path(path_type=Path, dir_okay=False, exists=True),
            envvar="COUNTERFOIL_CA",
            help="PEM file of the authority that the server's certificate is from. [COUNTERFOIL_CA]",
        ),
        click.option(
            "--token",
            envvar="COUNTERFOIL_TOKEN",
            required=True,
            help="Your access token; better in the environment than here. [COUNTERFOIL_TOKEN]",
        ),
        click.option(
            "--url",
            envvar="COUNTERFOIL_URL",
            required=True,
            help="The server, such as https://reports.example.com. [COUNTERFOIL_URL]",
        ),
    ):
        command = option(command)  # type: ignore[type-var]  # click's own decorators
    return command


@click.command()
@click.argument("subject", type=_Grantee())
@click.argument("report")
@click.option("--as", "role", required=True, help="The role whose view is given: role:analyst.")
@click.option("--for", "seconds", type=_Duration(), required=True, help="30m, 2h, 3d, 1w.")
@click.option("--reason", type=_Reason(), required=True, help="Why; it is kept in the access log.")
@_server_options
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
    click.echo(f"{said.id}  until {said.until}, policy {said.policy[:12]}")
    for warning in said.warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)


@click.command()
@click.argument("grant_id")
@_server_options
def revoke(grant_id: str, **server: Any) -> None:
    """End a grant before its time; who could have made it may end it."""
    said = _end("grant", grant_id, **server)
    click.echo(f"{said.id}  revoked, policy {said.policy[:12]}")


@click.command()
@click.argument("reports", required=False)
@click.option("--reason", type=_Reason(), help="Why; it is kept in the access log.")
@click.option("--lift", default="", metavar="ID", help="End the lockdown of this id instead.")
@_server_options
def lockdown(reports: str | None, reason: str | None, lift: str, **server: Any) -> None:
    """Refuse REPORTS (an id, prefix/*, or a set:) to everybody, from now on, until it is lifted.

    Answers that are under way are cut. The server decides whether you may (action `lockdown` on each
    of the reports), puts it on record, and answers when it is in force; prints the lockdown's id.
    """
    if bool(reports) == bool(lift) or bool(reports) != bool(reason):
        raise click.UsageError("give REPORTS and --reason, or --lift ID")
    if lift:
        said = _end("lockdown", lift, **server)
        click.echo(f"{said.id}  lifted, policy {said.policy[:12]}")
    else:
        said = _ask("POST", "/-/lockdowns", {"reports": reports, "reason": reason}, **server)
        click.echo(f"{said.id}  in force, policy {said.policy[:12]}")


def _end(kind: str, id_: str, **server: Any) -> _Said:
    if _ID.match(id_) is None:
        raise CounterfoilError("an id is the 32 hexadecimal digits that the command printed")
    try:
        return _ask("DELETE", f"/-/{kind}s/{id_}", None, **server)
    except _Refused as exc:
        if exc.status != HTTPStatus.NOT_FOUND:
            raise
        raise CounterfoilError(
            f"there is no {kind} {id_}, or it is not yours to end. Event {exc.event}"
        ) from exc


def _ask(method: str, path: str, body: object, *, url: str, token: str, ca: Path | None) -> _Said:
    """What the server answers; raises CounterfoilError with its reason where it refuses."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CounterfoilError("the server's URL is such as https://reports.example.com")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise CounterfoilError("a token is sent over https, or to this machine")
    if not token.isprintable() or not token.isascii():
        raise CounterfoilError("the token is not one: it has characters that no token has")
    connection: HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=ca)
        connection = HTTPSConnection(parts.hostname, parts.port, timeout=_SECONDS, context=context)
    else:
        connection = HTTPConnection(parts.hostname, parts.port, timeout=_SECONDS)
    headers = {"Authorization": f"Bearer {token}"}
    data = None
    if body is not None:
        data = msgspec.json.encode(body)
        headers["Content-Type"] = "application/json"
    try:
        connection.request(method, path, body=data, headers=headers)
        response = connection.getresponse()
        said = msgspec.json.decode(response.read(_MOST), type=dict[str, Any])
        status = response.status
    except (OSError, HTTPException) as exc:
        raise CounterfoilError(f"{url} gives no answer: {visible(str(exc))}") from exc
    except msgspec.DecodeError as exc:
        raise CounterfoilError(f"{url} does not answer as Counterfoil does") from exc
    finally:
        connection.close()
    if status not in (200, 201):
        title, detail, event = [visible(str(said.get(n, ""))) for n in ("title", "detail", "event")]
        raise _Refused(f"{title} ({status}): {detail} Event {event}", status=status, event=event)
    texts = {name: said.get(name, "") for name in ("id", "policy", "until")}
    shown = {name: visible(str(value)) for name, value in texts.items()}
    return _Said(**shown, warnings=[visible(str(each)) for each in said.get("warnings", ())])


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
