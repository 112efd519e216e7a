"""Identity providers, places for checkpoints, receivers of alarms and traces: whether each can be reached.

Each is asked as the proxy asks it. Nobody is sent anything of a client's, nor a credential; no redirect is
followed; of an answer no more is told than its status.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from shlex import quote

import aiohttp

from proxy.config import Config
from proxy.doctor.answers import AT_ONCE, REACH, SECONDS, ahead, cause, clocks_of, unknown
from proxy.doctor.finding import Finding, Patient, State
from proxy.identity import discovery
from proxy.identity.discovery import Metadata
from proxy.identity.fetching import fetch, why
from proxy.identity.jwks import MOST_BYTES, KeySet
from proxy.identity.sources import RemoteKeys
from proxy.identity.subjects import Issuer
from proxy.settings import Retain


async def identity_providers(patient: Patient) -> Iterable[Finding]:
    """Discovery and keys of each issuer, as they are fetched for tokens."""
    if patient.identities is None:
        return [unknown("identity providers", "subjects.yaml")]
    turn = asyncio.Semaphore(AT_ONCE)

    async def ask(issuer: Issuer) -> list[Finding]:
        async with turn:
            return await _asked(issuer)

    found = await asyncio.gather(*map(ask, patient.identities.issuers))
    return [each for some in found for each in some]


async def _asked(issuer: Issuer) -> list[Finding]:
    check, source = "identity providers", issuer.source
    if not isinstance(source, RemoteKeys):
        text = f"its keys are in {source.file}"
        return [Finding(check=check, what=issuer.issuer, state=State.OK, text=text)]
    dates: list[float] = []

    def heard(headers: Mapping[str, str]) -> None:
        dates.extend(ahead(headers.get("Date")))

    what = "its metadata"
    try:
        url = source.entry.url
        if url is None:
            said = await fetch(
                discovery.location(issuer.issuer), most=discovery.MOST_BYTES, heard=heard
            )
            url = Metadata.parse(said, issuer=issuer.issuer).jwks_uri
        what = "its keys"
        keys = KeySet(await fetch(url, most=MOST_BYTES, heard=heard))
    except Exception as exc:  # noqa: BLE001 - whatever is wrong there is what is to be told
        return [
            Finding(
                check=check,
                what=issuer.issuer,
                state=State.FAIL,
                text=f"{what} cannot be had: {why(exc)}",
                fix="no token of it counts until they can: see to name, route, certificate, proxy",
                command=f"curl -sS -o /dev/null -D - {quote(discovery.location(issuer.issuer))}",
            )
        ]
    found = [
        Finding(
            check=check,
            what=issuer.issuer,
            state=State.OK,
            text="its keys are had"
            + (f"; {keys.skipped} are of no use here" if keys.skipped else ""),
        )
    ]
    found += clocks_of(issuer.issuer, dates, float(issuer.skew))
    return found


async def retained(patient: Patient) -> Iterable[Finding]:
    """Each place of `retain`; nothing is written there, and no token sent."""
    config = patient.config
    async with _session() as session:
        found = await asyncio.gather(
            *(_place(config, session, each) for each in config.settings.retain)
        )
    if not found:
        return [
            Finding(
                check="retain",
                what="settings",
                state=State.WARN,
                text="checkpoints are kept nowhere else: whoever has the keyring can write another history",
                fix="name a folder, a URL or a witness as `retain`",
            )
        ]
    return found


async def _place(config: Config, session: aiohttp.ClientSession, retain: Retain) -> Finding:
    if retain.folder is not None:
        folder = config.path(retain.folder)
        if not folder.is_dir():
            text, fix = "there is no such folder", "mount it"
        elif not os.access(folder, os.W_OK | os.X_OK):
            text, fix = "this user may not write there", "let the proxy's user"
        else:
            return Finding(check="retain", what=str(folder), state=State.OK, text="may be written")
        return Finding(check="retain", what=str(folder), state=State.FAIL, text=text, fix=fix)
    url = retain.url or retain.witness or ""
    return await _reached("retain", url, session, url)


async def receivers(patient: Patient) -> Iterable[Finding]:
    """Who is told of alarms, and who takes traces; nothing is sent there, and no token."""
    settings = patient.config.settings
    named = {
        "alarms.webhook": settings.alarms.webhook,
        "traces.endpoint": None if settings.traces is None else settings.traces.endpoint,
    }
    async with _session() as session:
        found = await asyncio.gather(
            *(
                _reached("receivers", what, session, url)
                for what, url in named.items()
                if url is not None
            )
        )
    text = "alarms and traces are sent nowhere"
    return found or [Finding(check="receivers", what="settings", state=State.OK, text=text)]


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=SECONDS), cookie_jar=aiohttp.DummyCookieJar()
    )


async def _reached(check: str, what: str, session: aiohttp.ClientSession, url: str) -> Finding:
    """Whether it answers at all: what it is there for is a POST, and nobody is to take one from a doctor."""
    try:
        async with session.head(url, allow_redirects=False) as answer:
            status = answer.status
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
        text = f"cannot be reached: {cause(exc)}"
        return Finding(check=check, what=what, state=State.FAIL, text=text, fix=REACH)
    if 300 <= status < 400 or status >= 500:
        text, fix = f"it answers {status}", "see its own log"
        if status < 400:
            text, fix = f"{text}, and no redirect is followed", "name the address where it is now"
        return Finding(check=check, what=what, state=State.WARN, text=text, fix=fix)
    return Finding(check=check, what=what, state=State.OK, text=f"it answers ({status})")
