"""Attacks on identity over real sockets, with a real identity provider on this machine (THREATS C 22 to 30).

Whatever is presented: no 500, nothing of the report, one record, nothing asked of the store.
"""

from __future__ import annotations

import asyncio
import hmac
import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives import serialization

from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.provider import Provider
from tests.harness.proxy import Home, running
from tests.harness.store import Page, Store
from tests.identity.material import b64, key, pem, public, raw_token

PATH = "/sales/daily.csv"
OTHER = "/sales/secret.csv"
GOOD = public(key("EC"), kid="k")
NEW = key("EC", "new")
MACS = {
    "HS256": "sha256",
    "HS384": "sha384",
    "HS512": "sha512",
    "ES256": "sha256",
    "RS256": "sha256",
}

SUBJECTS = """\
issuers:
  - {{issuer: "{url}/main", prefix: "", audience: [counterfoil, secret-ones], groups: {{claim: groups}}}}
  - {{issuer: "{url}/partner", prefix: partner/, audience: [counterfoil], groups: {{claim: groups}}}}
  - {{issuer: "{url}/untyped", prefix: untyped/, audience: [counterfoil], token_type: jwt, clients: [app]}}
  - {{issuer: "{url}/moved", prefix: moved/, audience: [counterfoil]}}
  - {{issuer: "{url}/large", prefix: large/, audience: [counterfoil]}}
  - {{issuer: "{url}/mixed", prefix: mixed/, audience: [counterfoil]}}
  - {{issuer: "{url}/once", prefix: once/, audience: [counterfoil], single_use: 1000}}
  - issuer: "{url}/turning"
    prefix: turning/
    audience: [counterfoil]
    keys: {{refresh_seconds: 1, cool_down_seconds: 1}}
  - issuer: "{url}/opaque"
    prefix: opaque/
    audience: [counterfoil]
    introspection: {{client: counterfoil, secret: "file:secret", most_seconds: 1}}
"""
RULES = """\
p, anyone, sales/*, read, true, allow
p, tool:app, sales/*, act, true, allow
{prefixed}
p2, anyone, sales/*, true, *, clear
"""
TENANTS = ("main", "partner", "untyped", "moved", "large", "mixed", "once", "turning", "opaque")
REPORTS = sales.REPORTS.replace(
    "    title: Nobody is granted this\n",
    "    title: For tokens of its own\n    audience: [secret-ones]\n",
)


class World:
    def __init__(self, folder, background: Background) -> None:
        self.store = Store(background)
        self.store.pages[PATH] = Page(sales.as_csv(sales.rows(5)))
        self.store.pages[OTHER] = Page(b"a\n1\n")
        self.provider = Provider(background)
        for name in TENANTS:
            keys = public(key("EC", "partner"), kid="k") if name == "partner" else GOOD
            setattr(self, name, self.provider.tenant(name, keys))
        acts = "\n".join(f"p, tool:{name}/app, sales/*, act, true, allow" for name in TENANTS[1:])
        rules = RULES.replace("{prefixed}", acts)
        self.home = Home(folder, reports=REPORTS, rules=rules, store=self.store.url)
        self.home.write("secret", "s3cret\n")
        self.home.write("subjects.yaml", SUBJECTS.format(url=self.provider.url))

    def get(self, presented: str | None, target: str = PATH) -> wire.Answer:
        return self.proxy.get(target, token=presented)

    def refused(self, presented: str, *, status=(401,), target: str = PATH) -> wire.Answer:
        """The answer, which is a refusal that is on record and that nothing of the report is in."""
        before = len(self.store.asked)
        answer = self.get(presented, target)
        assert answer.status in status
        assert len(self.store.asked) == before
        assert answer.event in {event.access for event in self.proxy.events()}
        assert answer.headers["content-type"] == "application/problem+json"
        if len(presented) > 40:
            assert presented[-30:] not in answer.raw.decode("latin-1")
        return answer


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    background = Background()
    made = World(tmp_path_factory.mktemp("identity"), background)
    try:
        with running(made.home, background) as made.proxy:
            yield made
    finally:
        made.provider.close()
        made.store.close()
        background.close()


def test_a_good_token_of_each_issuer_is_given_its_report(world):
    for name in ("main", "untyped", "mixed", "turning", "opaque"):
        assert world.get(getattr(world, name).token()).status == 200, name
    assert world.get(world.partner.token(private=key("EC", "partner"))).status == 200
    world.refused(world.partner.token())
    assert world.get(None).status == 401


@pytest.mark.threat("C22")
def test_a_token_that_nobody_signed_or_that_is_signed_with_a_public_key_is_refused(world):
    parts = world.main.token().split(".")
    for alg in ("none", "None", "NONE", "nOnE", "", None, 0, ["none"]):
        header = {"alg": alg, "kid": "k", "typ": "at+jwt"}
        for kept in (header, {n: v for n, v in header.items() if n != "alg"}):
            head = b64(json.dumps(kept).encode())
            for signature in ("", parts[2], "AA"):
                world.refused(f"{head}.{parts[1]}.{signature}")
    der = (
        key("EC")
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    secrets = (
        pem(key("EC")),
        pem(key("EC")).strip(),
        der,
        json.dumps(GOOD).encode(),
        b"",
        b"secret",
    )
    for alg, digest in MACS.items():
        signed = f"{b64(json.dumps({'alg': alg, 'kid': 'k', 'typ': 'at+jwt'}).encode())}.{parts[1]}"
        for secret in secrets:
            mac = hmac.digest(secret or b"\0", signed.encode(), digest)
            world.refused(f"{signed}.{b64(mac)}")


@pytest.mark.threat("C23")
def test_no_key_is_looked_for_where_a_token_says(world):
    world.get(world.main.token())
    before, trap = dict(world.main.asked), world.provider.trap
    forger = key("EC", "forger")
    for name in ("jku", "x5u"):
        for place in (trap, "http://169.254.169.254/", "file:///etc/passwd"):
            world.refused(world.main.token(private=forger, header={name: place}))
    world.refused(world.main.token(private=forger, header={"jwk": public(forger)}))
    world.refused(world.main.token(private=forger, header={"x5c": ["MIIB"]}))
    for kid in ("../../../etc/passwd", "/dev/null", "k' OR '1'='1", "k\r\nX-Evil: 1", "k\0", "k|ls",
                trap, "K", " k", "k ", "a" * 4000):  # fmt: skip
        answer = world.refused(world.main.token(private=forger, kid=kid))
        assert b"X-Evil" not in answer.raw
    assert world.provider.trapped == 0
    assert dict(world.main.asked) == before or world.main.asked["jwks"] == before["jwks"] + 1


@pytest.mark.threat("C24")
def test_what_is_not_understood_of_a_token_is_refused(world):
    good = world.main.token()
    for header in ({"crit": ["exp"], "exp": 1}, {"crit": []}, {"crit": ["b64"], "b64": False},
                   {"cty": "JWT"}, {"zip": "DEF"}, {"enc": "A256GCM"}):  # fmt: skip
        world.refused(world.main.token(header=header))
    for typ in ("JWE", "dpop+jwt", "logout+jwt", "secevent+jwt", 1, None):
        world.refused(world.main.token(header={"typ": typ}))
    head = b'{"alg":"ES256","kid":"k","typ":"at+jwt"}'
    for nested in (good.encode(), json.dumps(good).encode(), json.dumps([good]).encode()):
        world.refused(raw_token(head, nested))
    jwe = b64(b'{"alg":"RSA-OAEP","enc":"A256GCM","kid":"k"}')
    world.refused(f"{jwe}.{'A' * 342}.{'A' * 16}.{'A' * 64}.{'A' * 22}")
    world.refused(json.dumps({"payload": good.split(".")[1], "signatures": []}))


@pytest.mark.threat("C25")
def test_a_claim_that_is_missing_of_another_type_or_out_of_time_refuses(world):
    now = int(time.time())
    for name in ("exp", "aud", "iss", "sub", "client_id"):
        world.refused(world.main.token(**{name: None}))
    values = {
        "exp": (str(now + 600), True, [now + 600], {}, -1, now - 31, 1e300, 10**400),
        "aud": (1, True, {}, [], ["counterfoil", 1], "counterfoil ", "COUNTERFOIL", ["x"]),
        "iss": (1, ["x"], world.main.issuer + "/", world.partner.issuer, ""),
        "sub": (1, True, [], {"a": 1}, "", "a\nb", "a,b"),
        "nbf": (str(now), True, now + 120, 1e300),
        "iat": (str(now), [], now + 120),
    }
    for name, each in values.items():
        for value in each:
            world.refused(world.main.token(**{name: value}))
    assert world.get(world.main.token(nbf=now + 20, iat=now + 20, exp=now - 20)).status == 200


@pytest.mark.threat("C26")
def test_an_id_token_and_a_token_for_another_client_or_audience_are_refused(world):
    for typ in ("JWT", "id_token+jwt"):
        world.refused(world.main.token(header={"typ": typ}))
    for tenant in (world.main, world.untyped):
        for more in ({"nonce": "n"}, {"at_hash": "x"}, {"typ": "ID"}, {"token_use": "id"}):
            world.refused(tenant.token(**more))
    header = {"typ": "JWT"}
    assert world.get(world.untyped.token(header=header)).status == 200
    world.refused(world.untyped.token(header=header, client_id="counterfoil"))
    world.refused(world.untyped.token(header=header, client_id="other"))
    world.refused(world.untyped.token(header=header, azp="other"))
    world.refused(world.untyped.token(header=header, client_id=None))
    world.refused(world.untyped.token(header=header, aud="app"))
    world.refused(world.main.token(act={"sub": "other"}))


@pytest.mark.threat("C27")
def test_a_huge_or_deep_token_is_refused_before_it_is_parsed(world):
    head = b'{"alg":"ES256","kid":"k","typ":"at+jwt"}'
    for presented in (
        "a" * 5_000_000,
        raw_token(head, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ):
        answer = world.refused(presented, status=(401, 431))
        assert len(answer.raw) < 2000
    most = 11_000
    for deep in (
        b"[" * most,
        b'{"a":' * (most // 5),
        b'{"iss":' + b"[" * (most // 2) + b"]" * (most // 2) + b"}",
    ):
        world.refused(raw_token(head, deep))
    world.refused("." * 10_000)
    world.refused(f"{b64(b'[' * 10_000)}.{b64(b'{}')}.AAAA")
    world.refused(raw_token(head, b'{"exp":' + b"9" * 10_000 + b"}"))


@pytest.mark.threat("C28")
def test_a_thousand_unknown_keys_cost_one_fetch_and_known_keys_outlive_an_outage(world):
    assert world.get(world.main.token()).status == 200
    before = world.main.asked["jwks"]
    parts = urlsplit(world.proxy.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port)
    for number in range(1000):
        presented = world.main.token(kid=f"random-{number}")
        connection.request("GET", PATH, headers={"Authorization": f"Bearer {presented}"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 401
    connection.close()
    assert world.main.asked["jwks"] - before <= 1
    world.provider.close()
    try:
        assert world.get(world.main.token("nobody-asked-before")).status == 200
        world.refused(world.main.token(kid="random"))
        assert wire.get(world.proxy.url, "/-/ready").status == 200
    finally:
        world.provider.start()


@pytest.mark.threat("C29")
def test_keys_that_were_moved_or_are_too_many_do_not_count_and_good_ones_beside_bad_ones_do(world):
    world.moved.moved = world.provider.trap
    world.large.large = True
    world.mixed.keys = [
        {"kty": "oct", "k": b64(b"secret"), "kid": "o", "alg": "HS256"},
        {"kty": "oct", "k": b64(b"secret"), "kid": "k", "alg": "ES256"},
        {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "kid": "bad"},
        {**public(key("RSA1024")), "kid": "small"},
        None,
        GOOD,
    ]
    fresh, background = copy(world), Background()
    fresh.home = _beside(world)
    try:  # a server that has fetched nothing yet
        with running(fresh.home, background) as fresh.proxy:
            fresh.refused(world.moved.token(), status=(503,))
            fresh.refused(world.large.token(), status=(503,))
            assert world.provider.trapped == 0
            assert world.large.sent < 8 << 20
            assert fresh.get(world.mixed.token()).status == 200
            for kid in ("o", "bad", "small"):
                fresh.refused(world.mixed.token(kid=kid))
            head = b64(b'{"alg":"HS256","kid":"o","typ":"at+jwt"}')
            signed = f"{head}.{world.mixed.token().split('.')[1]}"
            mac = hmac.digest(b"secret", signed.encode(), "sha256")
            fresh.refused(f"{signed}.{b64(mac)}")
            text = SUBJECTS.format(url=world.provider.url)
            fresh.home.write(
                "subjects.yaml", text.replace(world.provider.url, "http://id.example.com")
            )
            assert not fresh.proxy.reload()  # `http:` is a fault, and what was good goes on
            assert fresh.get(world.mixed.token()).status == 200
    finally:
        background.close()
        world.moved.moved, world.large.large, world.mixed.keys = "", False, [GOOD]


def _beside(world) -> Home:
    folder = world.home.folder / "beside"
    home = Home(
        folder,
        reports=REPORTS,
        rules=(world.home.policies / "policy.csv").read_text(),
        store=world.store.url,
    )
    for name in ("secret", "subjects.yaml"):
        home.write(name, (world.home.policies / name).read_text())
    return home


@pytest.mark.threat("C30")
def test_a_key_that_was_taken_out_stops_to_count_for_remembered_tokens_too(world):
    remembered = world.turning.token()
    assert world.get(remembered).status == 200
    world.turning.keys = [public(NEW, kid="n")]
    rotated = world.turning.asked["jwks"]
    renewed = world.turning.token(private=NEW, kid="n")
    until = time.monotonic() + 20
    while (answer := world.get(remembered)).status != 401 or world.get(renewed).status != 200:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert world.turning.asked["jwks"] > rotated
    assert answer.status == 401
    world.refused(world.turning.token())


@pytest.mark.threat("C30")
def test_a_token_for_one_request_is_refused_when_it_is_presented_again(world):
    presented = world.once.token(jti="one")
    assert world.get(presented).status == 200
    world.refused(presented)
    world.refused(world.once.token(jti="one", sub="mallory"))
    world.refused(world.once.token())
    assert world.proxy.reload()
    world.refused(presented)
    assert world.get(world.once.token(jti="two")).status == 200


# ── and beside the list ──


@pytest.mark.parametrize("revoked", [False, True])
def test_an_opaque_token_that_is_revoked_cuts_an_answer_that_is_under_way(world, revoked):
    """Its issuer is asked again between two blocks; one that is still good is given the whole of it."""
    said = {"active": True, "token_type": "Bearer", "sub": "alice", "aud": "counterfoil",
            "client_id": "app", "exp": int(time.time()) + 600}  # fmt: skip
    world.opaque.active["long"] = said
    document, gate = sales.as_csv(sales.rows(40_000)), asyncio.Event()
    half = document.index(b"\n", len(document) // 2) + 1

    async def gated():
        yield document[:half]
        await gate.wait()
        yield document[half:]

    before, world.store.pages[PATH] = world.store.pages[PATH], Page(gated)
    try:
        with ThreadPoolExecutor(1) as aside:
            started = {event.access for event in world.proxy.events()}
            asked = aside.submit(world.get, "long")
            try:
                until = time.monotonic() + 20
                while not any(
                    event.step == "intent" and event.access not in started
                    for event in world.proxy.events()
                ):
                    assert time.monotonic() < until
                    time.sleep(0.05)
                questions = world.opaque.asked["introspect"]
                if revoked:
                    world.opaque.active = {}
                # What was said a second ago counts no more: whoever asks now has the issuer asked.
                while world.opaque.asked["introspect"] == questions:
                    assert time.monotonic() < until
                    world.get("long", OTHER)
                    time.sleep(0.05)
            finally:
                world.store._background.loop.call_soon_threadsafe(gate.set)
            answer = asked.result(timeout=30)
    finally:
        world.store.pages[PATH] = before
    assert answer.status == 200 and answer.whole == (not revoked)
    if not revoked:
        assert answer.body.count(b"\n") == document.count(b"\n")
    ended = ""
    while not ended:  # its connection may be closed before its record is there
        assert time.monotonic() < until
        *_, ended = (each.ended for each in world.proxy.events() if each.access == answer.event)
    assert ended == ("expired" if revoked else "whole")


def test_a_server_whose_issuers_are_away_at_its_start_is_not_ready_until_one_answers(
    world, tmp_path
):
    """No token is called bad meanwhile, and nobody has to ask for the keys to come."""
    url, background = world.provider.url, Background()
    one = next(part for part in SUBJECTS.split("  - ") if "/turning" in part)
    home = Home(
        tmp_path / "away",
        reports=sales.REPORTS,
        rules=RULES.replace("{prefixed}", "p, tool:turning/app, sales/*, act, true, allow"),
        store=world.store.url,
    )
    home.write("subjects.yaml", "issuers:\n  - " + one.format(url=url))
    world.turning.keys = [GOOD]
    world.provider.close()
    try:
        with running(home, background) as proxy:
            asked = wire.get(proxy.url, "/-/ready")
            assert asked.status == 503 and json.loads(asked.body)["identity"] == "unknown"
            refusal = proxy.get(PATH, token=world.turning.token())
            assert refusal.status == 503 and int(refusal.headers["retry-after"]) > 0
            assert json.loads(refusal.body)["type"].endswith(":identity-unavailable")
            world.provider.start()
            until = time.monotonic() + 20
            while wire.get(proxy.url, "/-/ready").status != 200:
                assert time.monotonic() < until
                time.sleep(0.05)
            assert proxy.get(PATH, token=world.turning.token()).status == 200
    finally:
        background.close()
        if not world.provider.listens:
            world.provider.start()


def test_a_token_opens_what_its_audience_is_for_and_nothing_else(world):
    """What it does not open looks as if it were not there."""
    both = world.main.token(aud=["counterfoil", "secret-ones"])
    general, special = world.main.token(), world.main.token(aud=["secret-ones"])
    assert [world.get(each).status for each in (both, general)] == [200, 200]
    closed, unknown = (
        world.refused(special, status=(404,)),
        world.refused(special, status=(404,), target="/x"),
    )
    assert closed.seen() == unknown.seen()
    closed = world.refused(general, status=(404,), target=OTHER)
    assert closed.seen() == world.refused(general, status=(404,), target="/x").seen()
    (event,) = [each for each in world.proxy.events() if each.access == closed.event]
    assert event.cause == "other-audience"
    before = len(world.store.asked)
    for presented in (both, special):
        world.get(presented, OTHER)
    assert len(world.store.asked) == before + 2
    stolen = world.partner.token(aud=["counterfoil", "secret-ones"], private=key("EC", "partner"))
    assert world.refused(stolen, status=(404,), target=OTHER)


def test_an_opaque_token_is_good_while_its_issuer_says_so(world):
    now = int(time.time())
    said = {"active": True, "token_type": "Bearer", "sub": "alice", "aud": "counterfoil",
            "client_id": "app", "exp": now + 600}  # fmt: skip
    world.opaque.active["opaque-token"] = said
    assert world.get("opaque-token").status == 200
    world.refused("another-token")
    world.opaque.down = True
    answer = world.refused("a-third-token", status=(503,))
    assert answer.headers["retry-after"]
    world.opaque.down = False
    before = world.proxy.app.gateway.snapshot
    world.home.write("secret", "another\n")
    until = time.monotonic() + 20
    while world.proxy.app.gateway.snapshot is before:  # watched, like the policy
        assert time.monotonic() < until
        time.sleep(0.05)
    assert world.proxy.app.gateway.snapshot.identities.clients[0].secret == "another"
    assert world.get("opaque-token").status == 200
    world.opaque.active = {}
    until = time.monotonic() + 20
    while world.get("opaque-token").status != 401:
        assert time.monotonic() < until
        time.sleep(0.05)
