"""The issuers' keys, from a real server: at a URL, or where the issuer says (THREATS C 28 to 30)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from proxy.errors import Faulty
from proxy.identity import Identities
from proxy.identity.discovery import Metadata, location
from proxy.identity.entries import KeysEntry
from proxy.identity.jwks import MOST_BYTES
from proxy.identity.strict import Malformed
from proxy.plan import Deny
from proxy.reasons import Reason
from proxy.subject import Subject
from tests.identity.material import ISSUER, NOW, claims, jwks, key, public, token

GOOD = public(key("EC"), kid="k")
REFRESH = KeysEntry().refresh_seconds
COOL_DOWN = KeysEntry().cool_down_seconds
MOST_AGE = KeysEntry().outage_seconds + REFRESH
RETRY = 5


class Provider:
    """An identity provider's key endpoint on this machine; counts what it is asked."""

    def __init__(self) -> None:
        self.body = jwks(GOOD)
        self.asked = 0
        self.other = 0
        self.answer: Callable[[], web.Response] | None = None
        self.hold: asyncio.Event | None = None
        self.url = ""
        self.metadata: dict[str, object] = {}
        self.described = 0

    async def describe(self, _: web.Request) -> web.Response:
        self.described += 1
        return web.json_response(self.metadata)

    async def keys(self, request: web.Request) -> web.Response:
        self.asked += 1
        assert "Authorization" not in request.headers
        if self.hold is not None:
            await self.hold.wait()
        return self.answer() if self.answer else web.Response(body=self.body)

    async def elsewhere(self, _: web.Request) -> web.Response:
        self.other += 1
        return web.Response(body=self.body)


@asynccontextmanager
async def provider():
    made = Provider()
    app = web.Application()
    app.router.add_get("/jwks.json", made.keys)
    app.router.add_get("/elsewhere", made.elsewhere)
    app.router.add_get("/.well-known/openid-configuration", made.describe)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks.json"
        yield made
    finally:
        await runner.cleanup()


def identities(url: str, previous: Identities | None = None, *, keys: str = "") -> Identities:
    text = f"""\
issuers:
  - issuer: {ISSUER}
    prefix: ""
    audience: [counterfoil]
    keys: {{url: "{url}"{keys and ", " + keys}}}
    skew: 0
"""
    return Identities.load(text.encode(), file="s.yaml", folder=None, previous=previous)


def bearer(sub: str = "alice", **more) -> str:
    return f"Bearer {token(claims(sub=sub, exp=int(NOW + 10 * MOST_AGE)), **more)}"


async def cause(ids: Identities, presented: str, now: float) -> str:
    found = await ids.verify(presented, now)
    assert isinstance(found, Deny)
    assert (found.reason is Reason.IDENTITY) == (found.cause == "keys-unavailable")
    return found.cause


async def settled(ids: Identities) -> None:
    """Wait for a fetch that runs in the background."""
    for source in ids.remote():
        if source._running is not None:
            await asyncio.wait([source._running])


async def test_keys_are_fetched_when_first_needed_and_once_for_all_who_wait():
    async with provider() as idp:
        ids = identities(idp.url)
        found = await asyncio.gather(*(ids.verify(bearer(f"u{n}"), NOW) for n in range(20)))
        assert all(isinstance(each, Subject) for each in found)
        assert idp.asked == 1
        await ids.close()


async def test_a_thousand_unknown_keys_cost_one_fetch_in_each_cool_down():
    async with provider() as idp:
        ids = identities(idp.url)
        assert isinstance(await ids.verify(bearer(), NOW), Subject)
        for number in range(1000):
            assert await cause(ids, bearer(kid=f"random-{number}"), NOW + 1) == "unknown-key"
        assert idp.asked == 1
        for number in range(100):
            at = NOW + COOL_DOWN + number / 10
            assert await cause(ids, bearer(kid=f"r{number}"), at) == "unknown-key"
        assert idp.asked == 2
        assert isinstance(await ids.verify(bearer("bob"), NOW + COOL_DOWN), Subject)
        await ids.close()


@pytest.mark.parametrize("kid", ["../../etc/passwd", "k\r\nX: y", "' OR 1=1", "a b", "x" * 300, ""])
async def test_nobody_is_asked_for_a_key_id_that_is_an_attack(kid):
    async with provider() as idp:
        ids = identities(idp.url)
        assert isinstance(await ids.verify(bearer(), NOW), Subject)
        assert await cause(ids, bearer(kid=kid), NOW + 2 * COOL_DOWN) == "unknown-key"
        assert idp.asked == 1
        await ids.close()


async def test_no_key_is_fetched_from_where_a_token_says():
    async with provider() as idp:
        ids = identities(idp.url)
        elsewhere = idp.url.replace("jwks.json", "elsewhere")
        for name in ("jku", "x5u"):
            made = bearer(private=key("EC", "forger"), header={name: elsewhere})
            assert await cause(ids, made, NOW) == "header-refused"
        assert (idp.asked, idp.other) == (0, 0)
        await ids.close()


async def test_a_new_key_is_found_when_a_token_names_it():
    async with provider() as idp:
        ids = identities(idp.url)
        assert isinstance(await ids.verify(bearer(), NOW), Subject)
        idp.body = jwks(GOOD, public(key("EC", "new"), kid="n"))
        made = bearer(private=key("EC", "new"), kid="n")
        assert await cause(ids, made, NOW + 1) == "unknown-key"
        assert isinstance(await ids.verify(made, NOW + COOL_DOWN), Subject)
        await ids.close()


async def test_a_key_that_was_rotated_out_counts_no_more_within_the_stated_time():
    async with provider() as idp:
        ids = identities(idp.url)
        assert isinstance(await ids.verify(bearer(), NOW), Subject)
        idp.body = jwks(public(key("EC", "new"), kid="n"))
        assert isinstance(await ids.verify(bearer(), NOW + REFRESH + 1), Subject)
        await settled(ids)
        assert await cause(ids, bearer(), NOW + REFRESH + 1) == "unknown-key"
        await ids.close()


async def test_the_stated_time_may_be_shorter_than_the_cool_down():
    """A key that is taken out counts for `refresh_seconds`, whatever keeps unknown ones from being asked for."""
    async with provider() as idp:
        ids = identities(idp.url, keys="refresh_seconds: 5")
        assert isinstance(await ids.verify(bearer(), NOW), Subject)
        idp.body = jwks(public(key("EC", "other"), kid="other"))
        for second in range(7):
            ids.keep_fresh(NOW + second)
            await settled(ids)
        assert await cause(ids, bearer(), NOW + 7) == "unknown-key"
        await ids.close()


async def test_after_a_long_rest_the_first_token_waits_for_fresh_keys():
    async with provider() as idp:
        ids = identities(idp.url)
        assert isinstance(await ids.verify(bearer(), NOW), Subject)
        idp.body = jwks(public(key("EC", "new"), kid="n"))
        assert await cause(ids, bearer(), NOW + 2 * REFRESH + 1) == "unknown-key"
        await ids.close()


async def test_known_keys_outlive_an_outage_and_not_for_ever(caplog):
    caplog.set_level(logging.CRITICAL, "counterfoil")
    async with provider() as idp:
        ids = identities(idp.url)
        assert isinstance(await ids.verify(bearer(), NOW), Subject)
    for hours in range(1, 24):
        assert isinstance(await ids.verify(bearer(), NOW + hours * 3600), Subject)
        assert isinstance(await ids.verify(bearer("bob"), NOW + hours * 3600), Subject)
        await settled(ids)
    for presented in (bearer(), bearer("bob"), bearer("eve")):
        assert await cause(ids, presented, NOW + MOST_AGE + 1) == "keys-unavailable"
    await ids.close()


async def test_a_provider_that_is_down_at_first_is_asked_again_soon():
    async with provider() as idp:
        ids = identities(idp.url)
        idp.answer = lambda: web.Response(status=503)
        for _ in range(5):
            assert await cause(ids, bearer(), NOW) == "keys-unavailable"
        assert idp.asked == 1
        idp.answer = None
        assert isinstance(await ids.verify(bearer(), NOW + RETRY), Subject)
        await ids.close()


async def test_requests_with_known_keys_wait_for_nobody():
    async with provider() as idp:
        ids = identities(idp.url)
        assert isinstance(await ids.verify(bearer(), NOW), Subject)
        idp.hold = asyncio.Event()
        waiting = asyncio.create_task(ids.verify(bearer(kid="n"), NOW + COOL_DOWN))
        await asyncio.sleep(0.01)
        later = NOW + COOL_DOWN + 1
        assert isinstance(await asyncio.wait_for(ids.verify(bearer(), later), 1), Subject)
        assert isinstance(await asyncio.wait_for(ids.verify(bearer("bob"), later), 1), Subject)
        assert not waiting.done()
        idp.hold.set()
        assert isinstance(await waiting, Deny)
        await ids.close()


async def test_one_who_gives_up_waiting_does_not_end_the_fetch_for_others():
    async with provider() as idp:
        ids = identities(idp.url)
        idp.hold = asyncio.Event()
        first, second = (asyncio.create_task(ids.verify(bearer(), NOW)) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.wait([first])
        idp.hold.set()
        assert isinstance(await second, Subject)
        assert idp.asked == 1
        await ids.close()


async def test_close_ends_a_fetch_that_is_under_way():
    async with provider() as idp:
        ids = identities(idp.url)
        idp.hold = asyncio.Event()
        waiting = asyncio.create_task(ids.verify(bearer(), NOW))
        await asyncio.sleep(0.01)
        await ids.close()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        idp.hold.set()


MOVED = {"Location": "/elsewhere"}


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 302, "headers": MOVED},
        {"status": 307, "headers": MOVED},
        {"status": 404},
        {"status": 206},
        {"body": b" " * (MOST_BYTES + 1)},
        {"body": b"<html>"},
        {"body": b""},
        {"body": b"[" * 1_000_000},
        {"body": jwks()},
        {"body": jwks(*[GOOD] * 101)},
        {"headers": {"Content-Encoding": "gzip"}},
    ],
    ids=range(11),
)
async def test_an_answer_that_is_no_small_plain_key_set_is_refused_and_known_keys_go_on(
    answer, caplog
):
    caplog.set_level(logging.CRITICAL, "counterfoil")
    async with provider() as idp:
        fresh, old = identities(idp.url), identities(idp.url)
        assert isinstance(await old.verify(bearer(), NOW), Subject)
        idp.answer = lambda: web.Response(**{"body": jwks(GOOD), **answer})
        assert await cause(fresh, bearer(), NOW) == "keys-unavailable"
        assert isinstance(await old.verify(bearer(), NOW + REFRESH + 1), Subject)
        await settled(old)
        assert isinstance(await old.verify(bearer(), NOW + REFRESH + 2), Subject)
        assert idp.other == 0
        await fresh.close()
        await old.close()


async def test_a_reload_takes_fetched_keys_over():
    async with provider() as idp:
        ids = identities(idp.url)
        assert isinstance(await ids.verify(bearer(), NOW), Subject)
        again = identities(idp.url, previous=ids)
        assert isinstance(await again.verify(bearer(), NOW), Subject)
        assert idp.asked == 1
        await again.close()


async def test_a_reload_with_other_settings_takes_them_over_too_but_no_other_place_s():
    async with provider() as idp:
        ids = identities(idp.url)
        assert isinstance(await ids.verify(bearer(), NOW), Subject)
        slower = identities(idp.url, previous=ids, keys="refresh_seconds: 900")
        assert isinstance(await slower.verify(bearer(), NOW), Subject)
        assert idp.asked == 1
        elsewhere = identities(idp.url + "?other", previous=slower)
        assert not elsewhere.able
        assert isinstance(await elsewhere.verify(bearer(), NOW), Subject)
        assert idp.asked == 2
        await elsewhere.close()


async def test_unchanged_keys_leave_remembered_tokens_remembered():
    async with provider() as idp:
        ids = identities(idp.url)
        first = await ids.verify(bearer(), NOW)
        presented = bearer("bob")
        second = await ids.verify(presented, NOW)
        assert isinstance(first, Subject)
        await ids.verify(bearer(), NOW + REFRESH + 1)
        await settled(ids)
        assert idp.asked == 2
        assert await ids.verify(presented, NOW + REFRESH + 1) is second
        await ids.close()


# ── in the background ──


async def test_keys_are_fetched_and_refreshed_without_a_request():
    """Nobody waits for keys that could be had before; what was rotated out goes though nobody asks."""
    async with provider() as idp:
        ids = identities(idp.url)
        assert not ids.able
        ids.keep_fresh(NOW)
        await settled(ids)
        assert ids.able
        idp.hold = asyncio.Event()  # whoever had to wait would wait for ever
        assert isinstance(await ids.verify(bearer(), NOW), Subject)
        for second in range(REFRESH):
            ids.keep_fresh(NOW + second)
        assert idp.asked == 1
        idp.hold = None
        idp.body = jwks(public(key("EC", "new"), kid="n"))
        ids.keep_fresh(NOW + REFRESH + 1)
        await settled(ids)
        assert idp.asked == 2
        assert await cause(ids, bearer(), NOW + REFRESH + 1) == "unknown-key"
        await ids.close()


async def test_an_issuer_that_is_away_is_asked_once_in_a_cool_down(caplog):
    caplog.set_level(logging.CRITICAL, "counterfoil")
    async with provider() as idp:
        ids = identities(idp.url)
        idp.answer = lambda: web.Response(status=503)
        for second in range(61):
            ids.keep_fresh(NOW + second)
            await settled(ids)
        assert idp.asked == 1 + 60 // RETRY
        assert dict(next(ids.fetches())[1]) == {("keys", False): idp.asked}
        await ids.close()


async def test_settings_of_the_times_are_kept():
    async with provider() as idp:
        ids = identities(
            idp.url, keys="refresh_seconds: 10, cool_down_seconds: 2, outage_seconds: 30"
        )
        assert isinstance(await ids.verify(bearer(), NOW), Subject)
        assert await cause(ids, bearer(kid="a"), NOW + 1) == "unknown-key"
        assert idp.asked == 1
        assert await cause(ids, bearer(kid="a"), NOW + 2) == "unknown-key"
        assert idp.asked == 2
        idp.answer = lambda: web.Response(status=503)
        assert isinstance(await ids.verify(bearer(), NOW + 41), Subject)
        await settled(ids)
        assert await cause(ids, bearer(), NOW + 43) == "keys-unavailable"
        assert not ids.able
        await ids.close()


# ── by discovery ──


@asynccontextmanager
async def discovered(**more):
    """A provider that is its own issuer; `more` is told otherwise than it should be."""
    async with provider() as idp:
        origin = idp.url.removesuffix("/jwks.json")
        idp.metadata = {"issuer": origin, "jwks_uri": idp.url, **more}
        yield idp, origin


def by_discovery(issuer: str, previous: Identities | None = None) -> Identities:
    text = f"""\
issuers:
  - issuer: {issuer}
    prefix: ""
    audience: [counterfoil]
    groups: {{claim: groups}}
"""
    return Identities.load(text.encode(), file="s.yaml", folder=None, previous=previous)


def of(issuer: str, **more) -> str:
    return f"Bearer {token(claims(iss=issuer, exp=int(NOW + 10 * MOST_AGE)), **more)}"


async def test_keys_are_found_where_their_issuer_says():
    async with discovered() as (idp, issuer):
        ids = by_discovery(issuer)
        assert isinstance(await ids.verify(of(issuer), NOW), Subject)
        assert (idp.asked, idp.described) == (1, 1)
        for number in range(100):
            assert await cause(ids, of(issuer, kid=f"r{number}"), NOW + 1) == "unknown-key"
        assert (idp.asked, idp.described) == (1, 1)
        again = by_discovery(issuer, previous=ids)
        assert isinstance(await again.verify(of(issuer), NOW), Subject)
        assert (idp.asked, idp.described) == (1, 1)
        await again.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "https://id.example.com"},
        {"issuer": None},
        {"issuer": ["x"]},
        {"jwks_uri": None},
        {"jwks_uri": "http://id.example.com/jwks"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://169.254.169.254/latest"},
        {"jwks_uri": 1},
        {"jwks_uri": ["https://id.example.com/jwks"]},
        {"jwks_uri": "https://u:p@id.example.com/jwks"},
        {"introspection_endpoint": "http://id.example.com/introspect"},
    ],
)
async def test_metadata_of_another_issuer_or_that_lead_astray_give_no_keys(wrong, caplog):
    async with discovered(**wrong) as (idp, issuer):
        ids = by_discovery(issuer)
        assert await cause(ids, of(issuer), NOW) == "keys-unavailable"
        (told,) = (each.getMessage() for each in caplog.records if each.name == "counterfoil")
        assert told.startswith(f"the metadata of {issuer} cannot be had: they ")
        assert idp.asked == 0
        assert dict(next(ids.fetches())[1]) == {("discovery", False): 1}
        await ids.close()


def test_an_issuer_elsewhere_leads_to_nothing_on_this_machine():
    said = {"issuer": ISSUER, "jwks_uri": "http://127.0.0.1:8080/jwks"}
    with pytest.raises(Malformed):
        Metadata.parse(json.dumps(said).encode(), issuer=ISSUER)
    said["jwks_uri"] = "https://localhost/jwks"
    with pytest.raises(Malformed):
        Metadata.parse(json.dumps(said).encode(), issuer=ISSUER)
    said["jwks_uri"] = "https://keys.example.com/jwks"
    assert Metadata.parse(json.dumps(said).encode(), issuer=ISSUER).jwks_uri == said["jwks_uri"]


@pytest.mark.parametrize(
    ("issuer", "where"),
    [("https://a.example", "https://a.example/.well-known/openid-configuration"),
     ("https://a.example/", "https://a.example/.well-known/openid-configuration"),
     ("https://a.example/realms/x", "https://a.example/realms/x/.well-known/openid-configuration")],
)  # fmt: skip
def test_metadata_are_where_the_standard_says(issuer, where):
    assert location(issuer) == where


@pytest.mark.parametrize(
    ("issuer", "fault"),
    [("http://id.example.com", "identity providers are asked over https"), ("id", "not a URL"),
     ("https://id.example.com?tenant=1", "an issuer with a query"),
     ("https://169.254.169.254", "no identity provider is at such an address")],
)  # fmt: skip
def test_an_issuer_that_cannot_be_asked_is_a_fault(issuer, fault):
    with pytest.raises(Faulty) as caught:
        by_discovery(issuer)
    assert str(caught.value.faults[0]).startswith(f"s.yaml:2:13: {fault}")
