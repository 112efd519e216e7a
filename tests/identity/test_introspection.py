"""Tokens that are no JWTs: a real server says what they mean, and no longer than it may (RFC 7662)."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from proxy.errors import Faulty
from proxy.identity import Identities
from proxy.plan import Deny
from proxy.reasons import Reason
from proxy.subject import Subject
from tests.identity.material import ISSUER, NOW, claims, jwks, key, public, token

SECRET = "s3cret with %:/"


class Provider:
    """An introspection endpoint on this machine."""

    def __init__(self) -> None:
        self.said: dict[str, object] = {"active": True, "token_type": "Bearer", **claims(azp=None), "client_id": "bi"}  # fmt: skip
        self.asked: list[str] = []
        self.answer: dict[str, object] | None = None
        self.hold: asyncio.Event | None = None
        self.url = ""

    async def introspect(self, request: web.Request) -> web.Response:
        encoded = b64encode(b"counterfoil:s3cret+with+%25%3A%2F").decode()
        assert request.headers["Authorization"] == f"Basic {encoded}"
        form = await request.post()
        self.asked.append(str(form["token"]))
        if self.hold is not None:
            await self.hold.wait()
        if self.answer is not None:
            return web.Response(**self.answer)  # type: ignore[arg-type]
        return web.json_response(self.said)


@asynccontextmanager
async def provider():
    made = Provider()
    app = web.Application()
    app.router.add_post("/introspect", made.introspect)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/introspect"
        yield made
    finally:
        await runner.cleanup()


TEXT = """\
issuers:
  - issuer: https://id.example.com
    prefix: ""
    audience: [counterfoil]
    keys: {file: jwks.json}
    skew: 0
    introspection: {client: counterfoil, secret: "env:SECRET", url: "URL", most_seconds: 60}
"""


@pytest.fixture
def load(tmp_path):
    (tmp_path / "jwks.json").write_bytes(jwks(public(key("EC"), kid="k")))

    def load(url: str, previous: Identities | None = None) -> Identities:
        return Identities.load(
            TEXT.replace("URL", url).encode(),
            file="s.yaml",
            folder=tmp_path,
            environment={"SECRET": SECRET},
            previous=previous,
        )

    return load


async def cause(ids: Identities, presented: str, now: float = NOW) -> str:
    found = await ids.verify(f"Bearer {presented}", now)
    assert isinstance(found, Deny)
    unavailable = found.cause in ("introspection-unavailable", "introspection-busy")
    assert (found.reason is Reason.IDENTITY) == unavailable
    return found.cause


async def test_an_opaque_token_is_who_its_issuer_says_and_is_asked_about_once_in_a_while(load):
    async with provider() as idp:
        ids = load(idp.url)
        found = await asyncio.gather(*(ids.verify("Bearer opaque-1", NOW) for _ in range(20)))
        assert {(each.user, each.tool, each.audiences) for each in found} == {
            ("user:alice", "tool:bi", frozenset({"counterfoil"}))
        }
        assert await ids.verify("Bearer opaque-1", NOW + 59) == found[0]
        assert idp.asked == ["opaque-1"]
        idp.said = {"active": False}
        assert await cause(ids, "opaque-1", NOW + 60) == "token-inactive"
        assert idp.asked == ["opaque-1"] * 2
        assert "opaque-1" not in repr(vars(ids)) + repr(vars(ids.issuers[0].introspector))
        assert SECRET not in repr(ids.clients)


async def test_an_answer_counts_no_longer_than_the_token(load):
    async with provider() as idp:
        ids = load(idp.url)
        idp.said["exp"] = int(NOW) + 10
        assert isinstance(await ids.verify("Bearer t", NOW), Subject)
        assert await cause(ids, "t", NOW + 10) == "token-expired"


async def test_that_a_token_is_not_active_is_remembered_as_long(load):
    async with provider() as idp:
        ids = load(idp.url)
        idp.said = {"active": False}
        for second in range(60):
            assert await cause(ids, "t", NOW + second) == "token-inactive"
        assert len(idp.asked) == 1


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"iss": "https://partner.example.com"}, "unknown-issuer"), ({"aud": None}, "missing-claim"),
        ({"aud": "other"}, "wrong-audience"), ({"sub": None}, "missing-claim"), ({"sub": 1}, "wrong-type"),
        ({"client_id": None}, "missing-claim"), ({"exp": "soon"}, "wrong-type"), ({"exp": NOW - 1}, "token-expired"),
        ({"nbf": NOW + 1}, "token-not-yet-valid"), ({"nonce": "n"}, "id-token"), ({"typ": "Refresh"}, "id-token"),
        ({"cnf": {"jkt": "x"}}, "bound-token"), ({"token_type": None}, "token-type"),
        ({"token_type": "DPoP"}, "token-type"), ({"token_type": 1}, "token-type"),
        ({"act": {"sub": "etl"}}, "client-mismatch"), ({"active": "true"}, "introspection-unavailable"),
        ({"active": 1}, "introspection-unavailable"), ({"active": None}, "introspection-unavailable"),
    ],
)  # fmt: skip
async def test_what_is_answered_is_held_to_what_a_token_is(load, more, wanted, caplog):
    caplog.set_level(logging.CRITICAL, "counterfoil")
    async with provider() as idp:
        ids = load(idp.url)
        told = {**idp.said, **more}
        idp.said = {name: value for name, value in told.items() if value is not None}
        assert await cause(ids, "t") == wanted


async def test_what_the_standard_lets_out_may_be_absent(load):
    """RFC 7662 §2.2: `iss` and `exp` are optional; who answers is the issuer, and the answer ends by itself."""
    async with provider() as idp:
        ids = load(idp.url)
        del idp.said["iss"], idp.said["exp"]
        found = await ids.verify("Bearer t", NOW)
        assert isinstance(found, Subject) and found.expires == NOW + 60


async def test_a_token_for_one_request_is_one_here_too_and_must_say_when_it_ends(tmp_path):
    (tmp_path / "jwks.json").write_bytes(jwks(public(key("EC"), kid="k")))
    async with provider() as idp:
        text = TEXT.replace("URL", idp.url) + "    single_use: 10\n"
        ids = Identities.load(
            text.encode(), file="s.yaml", folder=tmp_path, environment={"SECRET": SECRET}
        )
        assert isinstance(await ids.verify("Bearer t", NOW, by=object()), Subject)
        assert await cause(ids, "t") == "token-replayed"
        del idp.said["exp"]
        assert await cause(ids, "u") == "missing-claim"


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 302, "headers": {"Location": "/introspect"}},
        {"status": 401},
        {"status": 500},
        {"body": b"<html>"},
        {"body": b'{"active":true,"active":true}'},
        {"body": b"[" * 60_000},
        {"body": b" " * 70_000},
        {"body": b"{}"},
        {"body": b'{"active":true}', "headers": {"Content-Encoding": "gzip"}},
    ],
    ids=range(9),
)
async def test_an_answer_that_is_none_is_an_outage_and_known_tokens_go_on(load, answer, caplog):
    caplog.set_level(logging.CRITICAL, "counterfoil")
    async with provider() as idp:
        ids = load(idp.url)
        assert isinstance(await ids.verify("Bearer known", NOW), Subject)
        idp.answer = answer
        assert await cause(ids, "new", NOW + 1) == "introspection-unavailable"
        assert isinstance(await ids.verify("Bearer known", NOW + 59), Subject)
        assert await cause(ids, "known", NOW + 60) == "introspection-unavailable"
        assert len(idp.asked) == 3


async def test_nobody_there_is_an_outage_too(load, caplog):
    async with provider() as idp:
        ids = load(idp.url)
    for number in range(3):
        assert await cause(ids, f"secret-token-{number}") == "introspection-unavailable"
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1 and "secret-token" not in told[0]
    assert dict(dict(ids.fetches())[ISSUER]) == {("introspection", False): 3}


async def test_how_many_are_asked_about_at_once_is_bounded_and_one_who_leaves_ends_nothing(load):
    async with provider() as idp:
        ids = load(idp.url)
        idp.hold = asyncio.Event()
        waiting = [asyncio.create_task(ids.verify(f"Bearer t{n}", NOW)) for n in range(64)]
        twin = asyncio.create_task(ids.verify("Bearer t0", NOW))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert await cause(ids, "one-more") == "introspection-busy"
        waiting[0].cancel()
        await asyncio.wait([waiting[0]])
        idp.hold.set()
        assert all(isinstance(each, Subject) for each in await asyncio.gather(twin, *waiting[1:]))
        assert len(idp.asked) == 64


async def test_what_has_the_parts_of_a_jwt_is_never_asked_about(load):
    async with provider() as idp:
        ids = load(idp.url)
        assert isinstance(await ids.verify(f"Bearer {token()}", NOW), Subject)
        assert await cause(ids, "a.b.c") == "token-malformed"
        assert await cause(ids, "a.b.c.d.e") == "token-malformed"
        assert await cause(ids, "white space") == "token-malformed"
        assert await cause(ids, "comma,token") == "token-malformed"
        assert await cause(ids, "x" * (16 << 10) + "x") == "token-too-large"
        assert not idp.asked


async def test_a_reload_takes_what_was_answered_over(load):
    async with provider() as idp:
        ids = load(idp.url)
        assert isinstance(await ids.verify("Bearer t", NOW), Subject)
        again = load(idp.url, previous=ids)
        assert isinstance(await again.verify("Bearer t", NOW), Subject)
        assert idp.asked == ["t"]
        await again.close()


def test_whoever_seals_or_reviews_a_folder_needs_no_secret(tmp_path):
    (tmp_path / "jwks.json").write_bytes(jwks(public(key("EC"), kid="k")))
    text = TEXT.replace("URL", "https://id.example.com/i").encode()
    for folder in (tmp_path, None):
        ids = Identities.load(text, file="s.yaml", folder=folder)
        assert [client.secret for client in ids.clients] == [""]


async def test_close_ends_a_question_that_is_under_way(load):
    async with provider() as idp:
        ids = load(idp.url)
        idp.hold = asyncio.Event()
        waiting = asyncio.create_task(ids.verify("Bearer t", NOW))
        await asyncio.sleep(0.01)
        await ids.close()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        idp.hold.set()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"env:SECRET"', "hunter2", "7:50: a secret is written as `env:NAME` or `file:PATH`"),
        ('"env:SECRET"', '"env:NONE"', "7:50: the secret cannot be read: no such variable"),
        ('"env:SECRET"', '"file:none"', "7:50: the secret cannot be read: no such file"),
        ('"env:SECRET"', '"file:empty"', "7:50: the secret cannot be read: it is empty"),
        ('url: "URL", ', "", "7:20: nobody says where to ask what tokens mean"),
        (
            "URL",
            "http://id.example.com/introspect",
            "7:69: identity providers are asked over https",
        ),
        ("most_seconds: 60", "most_seconds: 0", "7:109: the number is less than 1"),
    ],
)
def test_each_fault_has_its_place(tmp_path, old, new, fault):
    (tmp_path / "jwks.json").write_bytes(jwks(public(key("EC"), kid="k")))
    (tmp_path / "empty").write_bytes(b"\n")
    assert old in TEXT
    text = TEXT.replace(old, new).replace('"URL"', "https://id.example.com/i")
    with pytest.raises(Faulty) as caught:
        Identities.load(
            text.encode(), file="s.yaml", folder=tmp_path, environment={"SECRET": SECRET}
        )
    (found,) = map(str, caught.value.faults)
    assert found.startswith(f"s.yaml:{fault}")
    assert "hunter2" not in found
