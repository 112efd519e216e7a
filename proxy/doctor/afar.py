"""Identity providers, stores, places for checkpoints: whether each can be reached, and what its clock says.

Each is asked as the proxy asks it. Nobody is sent anything of a client's, nor a credential; no redirect is
followed; of an answer no more is told than its status.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from shlex import quote
from typing import Final

import aiohttp

from proxy.config import Config
from proxy.doctor.finding import Finding, Patient, State
from proxy.errors import CounterfoilError
from proxy.identity import discovery
from proxy.identity.discovery import Metadata
from proxy.identity.fetching import fetch, why
from proxy.identity.jwks import MOST_BYTES, KeySet
from proxy.identity.sources import RemoteKeys
from proxy.identity.subjects import Issuer
from proxy.report import Store
from proxy.settings import Retain
from proxy.upstream import Stores
from proxy.upstream.live import Limits

_SLACK: Final = 2.0
"""Seconds by which a Date header may be off with nothing wrong: it has whole ones, and takes a while."""
_SECONDS: Final = 6.0
_AT_ONCE: Final = 16
"""How many are asked at the same time."""


async def identity_providers(patient: Patient) -> Iterable[Finding]:
    """Discovery and keys of each issuer, as they are fetched for tokens."""
    if patient.identities is None:
        return [_unknown("identity providers", "subjects.yaml")]
    turn = asyncio.Semaphore(_AT_ONCE)

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
        dates.extend(_ahead(headers.get("Date")))

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
    found += _clocks(issuer.issuer, dates, float(issuer.skew))
    return found


async def stores(patient: Patient) -> Iterable[Finding]:
    """Each store's name, address, certificate and answer; its root is asked for, and left unread."""
    if patient.catalogue is None:
        return [_unknown("stores", "reports.yaml")]
    own = patient.config.settings.stores
    turn = asyncio.Semaphore(_AT_ONCE)
    limits = Limits(
        connect=min(own.connect_seconds, _SECONDS),
        first_byte=min(own.first_byte_seconds, _SECONDS),
        total=_SECONDS,
        connections=1,
    )
    async with Stores(limits) as asking:

        async def ask(store: Store) -> list[Finding]:
            async with turn:
                return await _answered(asking, store)

        found = await asyncio.gather(*map(ask, patient.catalogue.stores.values()))
    return [each for some in found for each in some]


async def _answered(asking: Stores, store: Store) -> list[Finding]:
    try:
        status, date = await asking.probe(store)
    except CounterfoilError as exc:
        text, fix = (
            f"{exc}: {_cause(exc.__cause__)}",
            "see to its name, route, port and certificate",
        )
        state = State.FAIL
    else:
        clocks = _clocks(f"store {store.name}", [*_ahead(date)], None)
        if status >= 500:
            text, fix, state = f"it answers {status}", "see the store's own log", State.WARN
        else:
            text, fix, state = f"it answers ({status} at its root)", "", State.OK
        return [_store(store, state, text, fix), *clocks]
    return [_store(store, state, text, fix)]


def _store(store: Store, state: State, text: str, fix: str) -> Finding:
    return Finding(check="stores", what=store.name, state=state, text=text, fix=fix)


def _cause(exc: BaseException | None) -> str:
    """What the system or TLS says of a connection that there is not."""
    match exc:
        case aiohttp.ClientConnectorCertificateError():
            return "its certificate is not one that is trusted here for its name"
        case aiohttp.ClientConnectorSSLError():
            return "it does not speak TLS as it should"
        case aiohttp.ClientConnectorError(os_error=cause):
            number = cause.errno or 0  # a resolver's are negative
            return os.strerror(number) if number > 0 else cause.strerror or str(cause)
        case TimeoutError():
            return "no answer in time"
        case None:
            return "no answer"
        case _:
            return type(exc).__name__


async def retained(patient: Patient) -> Iterable[Finding]:
    """Each place of `retain`; nothing is written there, and no token sent."""
    config = patient.config
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=_SECONDS), cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
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
    try:
        async with session.head(url, allow_redirects=False) as answer:
            status = answer.status
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
        return Finding(
            check="retain",
            what=url,
            state=State.FAIL,
            text=f"cannot be reached: {_cause(exc)}",
            fix="see to its name, route, port and certificate",
        )
    return Finding(check="retain", what=url, state=State.OK, text=f"it answers ({status})")


def _ahead(date: str | None) -> Iterable[float]:
    """How many seconds a peer's clock (RFC 9110 §6.6.1) is ahead of ours; nothing where it does not say."""
    if date is not None:
        try:
            yield parsedate_to_datetime(date).timestamp() + 0.5 - time.time()
        except (ValueError, TypeError, OverflowError):
            return


def _clocks(what: str, ahead: list[float], skew: float | None) -> list[Finding]:
    """What a peer's clock says of ours; `skew` is what tokens of an issuer may be off by."""
    if not ahead:
        return []
    apart = min(ahead, key=abs)
    state = State.OK
    if skew is not None and abs(apart) > skew + _SLACK:
        state = State.FAIL
    elif abs(apart) > _SLACK + (5.0 if skew is None else skew / 2):
        state = State.WARN
    if state is State.OK:
        return [Finding(check="clocks", what=what, state=state, text="its clock and ours agree")]
    text = f"its clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} ours"
    if state is State.FAIL:
        text += f", and `skew` is {skew:g} s: fresh tokens are refused, or old ones taken"
    fix = "keep both by the network's time; see first which of them is wrong"
    command = "timedatectl timesync-status"
    return [Finding(check="clocks", what=what, state=state, text=text, fix=fix, command=command)]


def _unknown(check: str, file: str) -> Finding:
    text = f"nobody was asked, for `{file}` is at fault"
    return Finding(check=check, what=file, state=State.FAIL, text=text, fix="see `policies`")
