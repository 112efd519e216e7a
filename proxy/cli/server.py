"""Asking the running server, with a token: what `grant`, `lockdown` and `reveal` share."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import click
import msgspec

from proxy.cli.log import visible
from proxy.errors import CounterfoilError

_SECONDS: Final = 60.0
_MOST: Final = 8 << 20
NO_JSON: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What decoders raise of an answer that is none of ours."""

F = TypeVar("F")


class Refused(CounterfoilError):
    """The server's refusal, in its words."""

    def __init__(self, text: str, *, status: int, event: str, after: int) -> None:
        self.status = status
        self.event = event
        self.after = after
        """In how many seconds to ask again, where it says so; else 0."""
        super().__init__(text)


def server_options(command: F) -> F:
    """Add `--url`, `--token` and `--ca`, which `Connection` takes."""
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


class Connection:
    """The server at `url`, asked with a token; a connection for each question."""

    def __init__(self, *, url: str, token: str, ca: Path | None) -> None:
        """Raises CounterfoilError where the token would go where it must not."""
        scheme, self._host, self._port = _place(url)
        if scheme == "http" and not _is_loopback(self._host):
            raise CounterfoilError("a token is sent over https, or to this machine")
        if not token.isprintable() or not token.isascii():
            raise CounterfoilError("the token is not one: it has characters that no token has")
        self._url = url
        try:
            self._tls = ssl.create_default_context(cafile=ca) if scheme == "https" else None
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            said = getattr(exc, "reason", None) or getattr(exc, "strerror", None) or "not PEM"
            raise CounterfoilError(f"--ca cannot be loaded: {said}") from None
        self._headers = {"Authorization": f"Bearer {token}"}

    def ask(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The object that it answers; raises Refused, and CounterfoilError where there is no answer.

        Whoever answers may be somebody else than Counterfoil.
        """
        connection: HTTPConnection
        if self._tls is not None:
            connection = HTTPSConnection(
                self._host, self._port, timeout=_SECONDS, context=self._tls
            )
        else:
            connection = HTTPConnection(self._host, self._port, timeout=_SECONDS)
        fields = {**self._headers, **(headers or {})}
        for name, text in fields.items():
            if not _is_value(text):
                raise CounterfoilError(
                    f"{name} cannot be sent: {visible(text)!r} has no place in a header"
                )
        if body is not None:
            fields["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body=body, headers=fields)
            response = connection.getresponse()
            said = msgspec.json.decode(response.read(_MOST), type=dict[str, Any])
            status, after = response.status, response.headers.get("Retry-After", "")
        except (OSError, HTTPException) as exc:
            raise CounterfoilError(f"{self._url} gives no answer: {visible(str(exc))}") from exc
        except NO_JSON as exc:
            raise CounterfoilError(f"{self._url} does not answer as Counterfoil does") from exc
        finally:
            connection.close()
        if status in (200, 201):
            return said
        names = ("title", "detail", "event")
        title, detail, event = [visible(str(said.get(name, ""))) for name in names]
        raise Refused(
            f"{title} ({status}): {detail} Event {event}",
            status=status,
            event=event,
            after=int(after) if after.isascii() and after.isdigit() else 0,
        )


def document(body: object) -> bytes:
    """What is asked, in JSON. Raises CounterfoilError where a word of it is not UTF-8."""
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError as exc:
        raise CounterfoilError(f"{visible(str(exc.object))} is not UTF-8") from None


def _place(url: str) -> tuple[str, str, int | None]:
    """The scheme, host and port that `url` names. Raises CounterfoilError, which does not repeat it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        fits = parts.scheme in ("http", "https") and "@" not in parts.netloc and url.isprintable()
        if fits and host and " " not in host:
            host.encode("idna")
            return parts.scheme, host, port
    except ValueError:  # and UnicodeError
        pass
    raise CounterfoilError(
        "the server's URL is such as https://reports.example.com, without a user"
    )


def _is_value(text: str) -> bool:
    """Whether a header field may have that value (RFC 9110 §5.5)."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return not text or text.isprintable()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
