"""The issuers' keys: from files, and from a real server (THREATS C 28 to 30)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from proxy.identity import Identities
from proxy.identity.jwks import (
    COOL_DOWN,
    MOST_AGE,
    MOST_BYTES,
    REFRESH,
    RETRY,
    KeySet,
)
from proxy.identity.strict import Malformed
from proxy.plan import Deny
from proxy.subject import Subject
from tests.identity.material import ISSUER, NOW, claims, jwks, key, public, token

GOOD = public(key("EC"), kid="k")


class Provider:
    """An identity provider's key endpoint on this machine; counts what it is asked."""

    def __init__(self) -> None:
        self.body = jwks(GOOD)
        self.asked = 0
        self.other = 0
        self.answer: Callable[[], web.Response] | None = None
        self.hold: asyncio.Event | None = None
        self.url = ""

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
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks.json"
        yield made
    finally:
        await runner.cleanup()


def identities(url: str, previous: Identities | None = None) -> Identities:
    text = f"""\
issuers:
  - issuer: {ISSUER}
    prefix: ""
    audience: [counterfoil]
    keys: {{url: "{url}"}}
    skew: 0
"""
    return Identities.load(text.encode(), file="s.yaml", folder=None, previous=previous)


def bearer(sub: str = "alice", **more) -> str:
    return f"Bearer {token(claims(sub=sub, exp=int(NOW + 10 * MOST_AGE)), **more)}"


async def cause(ids: Identities, presented: str, now: float) -> str:
    found = await ids.verify(presented, now)
    assert isinstance(found, Deny)
    return found.cause


async def settled(ids: Identities) -> None:
    """Wait for a fetch that runs in the background."""
    for source in ids.fetched().values():
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


# ── sets ──


BAD = [
    {"kty": "oct", "k": "c2VjcmV0", "kid": "b"},
    {"kty": "oct", "k": "c2VjcmV0", "kid": "b", "alg": "ES256"},
    public(key("RSA1024"), kid="b"),
    public(key("EC384"), kid="b"),
    public(key("RSA"), kid="b", use="enc"),
    public(key("RSA"), kid="b", alg="RS512"),
    public(key("RSA"), kid="b", alg="RSA-OAEP"),
    public(key("RSA"), kid="b", key_ops=["encrypt"]),
    public(key("RSA"), kid="b", key_ops="verify"),
    {**public(key("EC"), kid="b"), "d": "AAAA"},
    {**public(key("EC"), kid="b"), "y": public(key("EC", "other"))["y"]},
    {**public(key("EC"), kid="b"), "x": "AAAA"},
    {**public(key("EC"), kid="b"), "x": 1},
    {**public(key("EC"), kid="b"), "crv": "P-384"},
    {**public(key("OKP"), kid="b"), "crv": "Ed448"},
    {**public(key("OKP"), kid="b"), "x": "AAAA"},
    {**public(key("RSA"), kid="b"), "e": "AQ"},
    {**public(key("RSA"), kid="b"), "n": "!!"},
    {**public(key("RSA"), kid="b"), "n": "A" * 3000},
    {"kty": "RSA", "kid": "b"}, {"kty": ["RSA"], "kid": "b"}, {"kid": "b"}, {}, [], None, 1, "x",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_key_is_skipped_and_the_good_ones_of_its_set_work(bad):
    keys = KeySet(jwks(bad, GOOD, bad))
    assert keys.find("k", "ES256") is not None
    assert not any(keys.find("b", name) for name in ("RS256", "PS256", "ES256", "EdDSA", "HS256"))
    with pytest.raises(Malformed):
        KeySet(jwks(bad))


def test_a_key_serves_the_algorithms_of_its_kind_or_the_one_that_it_names():
    every = KeySet(jwks(public(key("RSA"), kid="r"), public(key("OKP"), kid="o"), GOOD))
    found = {
        (kid, name)
        for kid in ("r", "o", "k")
        for name in ("RS256", "PS256", "ES256", "EdDSA")
        if every.find(kid, name)
    }
    assert found == {("r", "RS256"), ("r", "PS256"), ("o", "EdDSA"), ("k", "ES256")}
    named = KeySet(jwks(public(key("RSA"), kid="r", alg="PS256")))
    assert named.find("r", "PS256")
    assert not named.find("r", "RS256")


def test_only_a_set_of_one_key_needs_no_key_id():
    assert KeySet(jwks(GOOD)).find(None, "ES256")
    assert KeySet(jwks(public(key("EC")))).find(None, "ES256")
    assert not KeySet(jwks(GOOD, public(key("EC", "b"), kid="b"))).find(None, "ES256")


def test_two_keys_that_one_id_cannot_tell_apart_do_not_count():
    keys = KeySet(jwks(GOOD, public(key("EC", "b"), kid="k"), public(key("RSA"), kid="k")))
    assert keys.find("k", "ES256") is None
    assert keys.find("k", "RS256")


@given(st.binary(max_size=100) | st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["RSA", "EC", "AQAB", "P-256"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["keys", "kty", "crv", "x", "y", "n", "e", "kid", "use", "alg"]), inner, max_size=6),
    max_leaves=10).map(lambda tree: json.dumps({"keys": [tree]}).encode()))  # fmt: skip
def test_any_bytes_are_a_key_set_or_malformed_and_nothing_else(raw):
    with pytest.raises(Malformed):
        KeySet(raw)
