"""Stores: whether each can be reached, whether its credential can be had, and whether it takes that.

Each is asked by the proxy's own client. A command is run, and a token endpoint asked, as for a request. Only
the store itself is shown the credential; nobody is sent anything of a client's, no redirect is followed, and
of an answer no more is told than its status.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import aiohttp
import msgspec

from proxy import codings, fitted
from proxy.catalogue import Catalogue
from proxy.config import Config
from proxy.credentials import Basic, Bearer, ClientCredentials, Credential, Secret
from proxy.doctor.answers import AT_ONCE, REACH, SECONDS, ahead, cause, clocks_of, unknown
from proxy.doctor.finding import Finding, Patient, State
from proxy.doctor.settings import catalogue_with_credentials
from proxy.errors import CounterfoilError, StoreUnavailable
from proxy.report import Store
from proxy.upstream import Stores
from proxy.upstream.exchange import Pool, get
from proxy.upstream.kept import Unavailable
from proxy.upstream.live import Live
from proxy.upstream.resolving import GuardedResolver

_CREDENTIAL_SECONDS: Final = 15.0
"""How long a command or a token endpoint is waited for, which have limits of their own."""
_BUFFER: Final = 1 << 16
_UNAUTHORIZED, _FORBIDDEN = 401, 403


class _Said(NamedTuple):
    """What there is to say of a store."""

    state: State
    text: str
    fix: str = ""


async def stores(patient: Patient) -> Iterable[Finding]:
    """Each store's name, address, certificate, credential and answer; of it, its root is asked for."""
    config = patient.config
    whole = catalogue_with_credentials(config)
    catalogue = whole or patient.catalogue
    if catalogue is None:
        return [unknown("stores", "reports.yaml")]
    with ThreadPoolExecutor(1) as executor:
        async with fitted.stores(_hasty(config), executor, workers=1) as asking:
            found = await _all(asking, catalogue, bare=whole is None)
    return found


def _hasty(config: Config) -> Config:
    """With settings by which no store is waited for longer than a doctor may."""
    own = config.settings.stores
    most = int(SECONDS)
    hasty = msgspec.structs.replace(
        own,
        connect_seconds=min(own.connect_seconds, most),
        first_byte_seconds=min(own.first_byte_seconds, most),
        total_seconds=most,
    )
    settings = msgspec.structs.replace(config.settings, stores=hasty)
    return msgspec.structs.replace(config, settings=settings)


async def _all(asking: Stores, catalogue: Catalogue, *, bare: bool) -> list[Finding]:
    turn = asyncio.Semaphore(AT_ONCE)

    async def ask(store: Store) -> list[Finding]:
        async with turn:
            return await _asked(asking, dataclasses.replace(store, limits=()), bare=bare)

    found = await asyncio.gather(*map(ask, catalogue.stores.values()))
    return [each for some in found for each in some]


async def _asked(asking: Stores, store: Store, *, bare: bool) -> list[Finding]:
    said: list[_Said] = []
    clocks: list[Finding] = []
    status: int | None = None
    try:
        status, date = await asking.probe(store)
    except CounterfoilError as exc:
        said.append(_Said(State.FAIL, f"{exc}: {cause(exc.__cause__)}", REACH))
    else:
        clocks = clocks_of(f"store {store.name}", [*ahead(date)], None)
    try:
        authorization = await _credential(asking, store)
        if status is not None and authorization is not None:
            (live,) = asking.known([store.name])
            status = await _presented(live, authorization)
    except Unavailable as exc:
        more = f": {cause(exc.__cause__)}" if isinstance(exc.__cause__, aiohttp.ClientError) else ""
        text = f"its credential cannot be had: {exc}{more}"
        said.append(_Said(State.FAIL, text, _to_have(store.credential)))
    except StoreUnavailable as exc:
        said.append(_Said(State.FAIL, f"{exc}: {cause(exc.__cause__)}", REACH))
    else:
        if status is not None:
            said += _of_status(status, presented=authorization is not None, bare=bare)
    return [_finding(store, each) for each in said] + clocks


async def _credential(asking: Stores, store: Store) -> str | None:
    """What the proxy presents, had as for a request; raises Unavailable."""
    if store.credential is None:
        return None
    (live,) = asking.known([store.name])
    try:
        async with asyncio.timeout(_CREDENTIAL_SECONDS):
            return await live.authorization()
    except TimeoutError as exc:
        raise Unavailable(f"it takes over {_CREDENTIAL_SECONDS:g} seconds") from exc


async def _presented(live: Live, authorization: str) -> int:
    """What the store answers at its root to who presents that; raises StoreUnavailable."""
    pool = Pool(resolver=GuardedResolver(loopback=live.store.loopback), use_dns_cache=False)
    async with pool:
        try:
            answer = await get(
                pool,
                await live.prepared("*/*", codings.IDENTITY, authorization),
                "/",
                limits=live.timeout,
                buffer=_BUFFER,
                head_by=asyncio.get_running_loop().time() + live.limits.first_byte,
            )
        except (aiohttp.ClientError, OSError) as exc:
            text = "the store does not answer who presents its credential"
            raise StoreUnavailable("store-unreachable", text) from exc
        answer.end()
    return answer.status


def _of_status(status: int, *, presented: bool, bare: bool) -> Iterator[_Said]:
    text = f"it answers ({status} at its root)"
    if bare:
        text += "; neither a credential nor certificates were tried, for `reports.yaml` is at fault"
        yield _Said(State.WARN, text, "see `policies`")
    elif presented and status == _UNAUTHORIZED:
        text = f"it refuses the credential that it is shown ({status} at its root)"
        fix = "put the one that it takes where `reports.yaml` says, or let it take this one"
        yield _Said(State.FAIL, text, fix)
    elif presented and status == _FORBIDDEN:
        text = f"the credential that it is shown opens not even its root ({status})"
        yield _Said(State.WARN, text, "see whether the store gives its reports to who has that")
    elif status in (_UNAUTHORIZED, _FORBIDDEN):
        text = f"it asks for a credential ({status} at its root), and `reports.yaml` names none"
        fix = "give the store `credential`, `basic` or `oauth`, unless its reports need none"
        yield _Said(State.WARN, text, fix)
    elif status >= 500:
        yield _Said(State.WARN, f"it answers {status}", "see the store's own log")
    else:
        yield _Said(State.OK, text)


def _to_have(credential: Credential | None) -> str:
    """What to do where it cannot be had."""
    match credential:
        case Bearer(token=secret) | Basic(password=secret):
            return _of_secret(secret)
        case ClientCredentials(secret=secret):
            own = "see to `token_url`, `client` and `secret` of its `oauth`"
            return f"{own}; {_of_secret(secret)}"
        case None:
            return ""


def _of_secret(secret: Secret) -> str:
    match secret.kind:
        case "command":
            return (
                f"run `commands.{secret.place}` of counterfoil.yaml by hand, as the proxy's user: it must"
                " print the secret on one line, and end with status 0 in time"
            )
        case "file":
            return f"put the secret alone into {secret.place}"
        case _:
            return f"see what `{secret.place}` is where the proxy is started"


def _finding(store: Store, said: _Said) -> Finding:
    return Finding(check="stores", what=store.name, state=said.state, text=said.text, fix=said.fix)
