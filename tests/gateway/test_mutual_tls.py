"""Client certificates over real TLS: which tool asks, on whose behalf, and how soon one that is revoked ends."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.harness import sales, wire
from tests.harness.pki import LOCAL, SERVER, Authority, Leaf, trusting, uri
from tests.harness.proxy import Proxy, stage
from tests.harness.store import Page, Store

PATH = "/sales/daily.csv"
BI = uri("spiffe://example.com/bi")
RULES = """\
p,  tool:app,     sales/*,       act,  true, allow
p,  tool:bi,      sales/*,       act,  true, allow
p,  tool:bi,      sales/daily,   read, true, allow
p,  role:analyst, sales/daily,   read, true, allow
p,  role:analyst, sales/audited, read, env.tool == 'bi', allow
p2, role:analyst, sales/*, true, @public|@internal, clear
p2, tool:bi,      sales/daily, true, region|units, clear
g,  group:analysts, role:analyst
"""
TOOLS = """\
tools:
  - {tool: bi, certificates: ["URI:spiffe://example.com/bi"], passes_on: [app]}
"""


@dataclass
class World:
    store: Store
    proxy: Proxy
    authority: Authority
    folder: Path

    def shows(self, leaf: Leaf | None) -> ssl.SSLContext:
        """A client that shows it."""
        if leaf is None:
            return trusting(self.authority)
        return trusting(self.authority, leaf.write(self.folder, f"leaf{leaf.thumbprint[:8]}"))

    def get(self, leaf: Leaf | None, token: str | None = None, target: str = PATH, **more):
        return wire.get(self.proxy.url, target, token=token, ca=self.shows(leaf), **more)

    def event(self, answer: wire.Answer):
        (event,) = [each for each in self.proxy.events() if each.access == answer.event]
        return event


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority()
    certificate, key = authority.issue(*LOCAL, usage=SERVER).write(folder, "server")
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "ca.crl").write_bytes(authority.revoke())
    listen = (
        f", certificate: {certificate}, key: {key},"
        f" clients: {{authority: {folder}/ca.pem, revoked: {folder}/ca.crl}}"
    )
    with stage(folder / "home", reports=sales.REPORTS, rules=RULES, listen=listen) as (
        store,
        proxy,
    ):
        subjects = proxy.home.policies / "subjects.yaml"
        subjects.write_text(subjects.read_text() + TOOLS)
        assert proxy.reload()
        store.pages[PATH] = Page(sales.as_csv(sales.rows(20)))
        yield World(store, proxy, authority, folder)


@pytest.fixture
def bi(world) -> Leaf:
    return world.authority.issue(BI)


def alice(world, tool: str | None = "bi", **claims) -> str:
    return world.proxy.issuer.token("alice", groups=("analysts",), tool=tool, **claims)


def columns(answer: wire.Answer) -> str:
    assert answer.status == 200, answer
    return answer.body.decode().splitlines()[0]


def test_a_certificate_alone_is_a_tool_that_acts_for_itself(world, bi):
    """It gets what the tool's own lines give, on record under the tool's name and the certificate's digest."""
    answer = world.get(bi)
    assert columns(answer) == "region,units"
    event = world.event(answer)
    assert (event.tool, event.certificate) == ("tool:bi", bi.thumbprint)
    assert event.subject == world.proxy.app.keys.keyring.opaque("tool:bi")


@pytest.mark.parametrize("tool", ["bi", "app"])
def test_with_a_token_it_is_the_tool_on_behalf_of_the_user(world, bi, tool):
    """The user's grants count, through the tool of the certificate, whichever of its clients had the token."""
    answer = world.get(bi, alice(world, tool))
    assert columns(answer) == "date,store_id,region,units"
    event = world.event(answer)
    assert (event.tool, event.certificate) == ("tool:bi", bi.thumbprint)
    assert event.subject == world.proxy.app.keys.keyring.opaque("user:alice")


def test_a_rule_can_ask_for_both(world, bi):
    """`env.tool == 'bi'` for a role of users needs the token and the certificate; one of them alone is none."""
    audited = "/sales/audited.csv"
    world.store.pages["/sales/daily.csv"] = Page(sales.as_csv(sales.rows(20)))
    assert world.get(bi, alice(world), audited).status == 200
    assert world.get(bi, None, audited).status == 404
    assert world.get(None, alice(world, "app"), audited).status == 404
    assert world.get(None, alice(world, "bi"), audited).status == 401


@pytest.mark.threat("C31", "C26")
@pytest.mark.parametrize(
    ("shown", "tool", "cause"),
    [
        (True, "spa", "client-mismatch"),
        (False, "bi", "certificate-needed"),
        (None, None, "certificate-unknown"),
    ],
)
def test_a_token_of_another_client_and_a_strangers_certificate_are_refused(
    world, bi, shown, tool, cause
):
    """C26: a token for another client, a tool's name without its certificate, a certificate of no tool: 401."""
    leaf = bi if shown else None if shown is False else world.authority.issue(common="bi")
    world.store.asked.clear()
    answer = world.get(leaf, alice(world, tool) if tool else None)
    assert answer.status == 401 and world.event(answer).cause == cause
    assert not world.store.asked


@pytest.mark.threat("C31")
@pytest.mark.parametrize(
    "made",
    [
        lambda ca: ca.issue(BI, until=-timedelta(minutes=1)),
        lambda ca: ca.issue(BI, since=timedelta(minutes=5)),
        lambda _: Authority().issue(BI),
        lambda _: Authority("Another").issue(BI),
        lambda ca: ca.issue(BI, usage=SERVER),
    ],
    ids=["expired", "future", "forged CA", "wrong CA", "serverAuth only"],
)
def test_a_bad_certificate_fails_the_handshake(world, made):
    """C31: no answer is given on such a connection, the store is not asked, and a metric counts it."""
    world.store.asked.clear()
    before, failed = len(world.proxy.events()), world.proxy.app.connections.refused["tls-failed"]
    with pytest.raises((ssl.SSLError, ConnectionError, ValueError, IndexError)):
        world.get(made(world.authority), alice(world, "app"))
    assert not world.store.asked and len(world.proxy.events()) == before
    assert until(lambda: world.proxy.app.connections.refused["tls-failed"] == failed + 1)


@pytest.mark.threat("C31")
def test_a_certificate_that_openssl_takes_and_is_not_for_clients_is_refused(world):
    """C31: without an extended key usage a certificate is for anything, and so for nothing here: 401."""
    answer = world.get(world.authority.issue(BI, usage=None), alice(world, "app"))
    assert answer.status == 401 and world.event(answer).cause == "certificate-usage"


@pytest.mark.parametrize("confirmed", ["it", "another", "other members", "a text"])
def test_a_bound_token_counts_with_its_certificate_alone(world, bi, confirmed):
    """RFC 8705: `cnf` names the certificate; without that one, or with another confirmation, it is 401."""
    thumbprint = base64.urlsafe_b64encode(bytes.fromhex(bi.thumbprint)).decode().rstrip("=")
    cnf = {
        "it": {"x5t#S256": thumbprint},
        "another": {"x5t#S256": "A" * 43},
        "other members": {"x5t#S256": thumbprint, "jkt": "x"},
        "a text": thumbprint,
    }[confirmed]
    token = alice(world, "app", cnf=cnf)
    answers = [world.get(leaf, token) for leaf in (bi, world.authority.issue(BI), None, bi)]
    good = 200 if confirmed == "it" else 401
    assert [each.status for each in answers] == [good, 401, 401, good]
    assert {world.event(each).cause for each in answers if each.status == 401} == {"bound-token"}


def ask(sock, token: str) -> int:
    sock.sendall(
        f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    received = b""
    while b"\r\n\r\n" not in received:
        received += sock.recv(1 << 16)
    head, _, body = received.partition(b"\r\n\r\n")
    left = int(re.search(rb"Content-Length: (\d+)", head)[1]) - len(body)
    while left > 0:
        left -= len(sock.recv(left))
    return int(head.split()[1])


def until(condition) -> bool:
    ends = time.monotonic() + 20
    while not condition() and time.monotonic() < ends:
        time.sleep(0.05)
    return condition()


@pytest.mark.threat("C31")
def test_a_list_of_revoked_ones_is_taken_while_connections_are_open(world, bi):
    """C31: on the connection that it has open, a revoked certificate's next request is 401; so is all once stale."""
    other, token, crl = world.authority.issue(BI), alice(world), world.folder / "ca.crl"
    kept = crl.read_bytes()
    try:
        with (
            wire.connect(world.proxy.url, world.shows(bi)) as sock,
            wire.connect(world.proxy.url, world.shows(other)) as beside,
        ):
            assert ask(sock, token) == ask(beside, token) == 200
            crl.write_bytes(world.authority.revoke(bi))
            assert until(lambda: ask(sock, token) == 401)
            assert ask(beside, token) == 200
            crl.write_bytes(b"-----BEGIN X509 CRL-----\n")  # half-way: the last good one stays
            assert until(lambda: "clients" in world.proxy.app.tls.untaken)
            assert ask(sock, token) == 401 and ask(beside, token) == 200
            crl.write_bytes(
                world.authority.revoke(since=-timedelta(hours=2), until=-timedelta(minutes=1))
            )
            assert until(lambda: ask(beside, token) == 401)
        assert world.event(world.get(other, token)).cause == "revocations-stale"
    finally:
        crl.write_bytes(kept)
        world.proxy._background.run(world.proxy.app.tls.reload())
    assert world.get(bi, token).status == 200 and not world.proxy.app.tls.untaken


def test_what_stands_between_authorities_is_in_any_language(world, bi):
    """A bundle that names them in UTF-8 is one, and takes nothing from what it has."""
    path, name = world.folder / "ca.pem", "# Főtanúsítvány\n".encode()
    try:
        path.write_bytes(name + world.authority.pem + b"\xff\n")
        assert world.proxy.reload() and not world.proxy.app.tls.untaken
        assert columns(world.get(bi)) == "region,units"
    finally:
        path.write_bytes(world.authority.pem)
        assert world.proxy.reload()


def test_a_renewed_server_certificate_is_taken_and_a_broken_one_is_not(world):
    """New connections get the new certificate; with a key of another one the last good pair goes on, loudly."""

    def served() -> str:
        with wire.connect(world.proxy.url, trusting(world.authority)) as sock:
            return sock.getpeercert()["serialNumber"]

    first = served()
    renewed = world.authority.issue(*LOCAL, usage=SERVER)
    renewed.write(world.folder, "server")
    number = f"{renewed.certificate.serial_number:X}"
    assert until(lambda: served().lstrip("0") == number.lstrip("0")) and served() != first
    (world.folder / "server.key").write_bytes(world.authority.issue(*LOCAL, usage=SERVER).key)
    assert until(lambda: "certificate" in world.proxy.app.tls.untaken)
    assert served().lstrip("0") == number.lstrip("0")
    renewed.write(world.folder, "server")
    assert until(lambda: not world.proxy.app.tls.untaken)


def test_an_answer_under_way_is_cut_when_its_certificate_is_revoked(world, bi):
    """C31, D39: what is streamed to a certificate ends with it, and the record says how far it came."""
    lines = sales.as_csv(sales.rows(40_000))
    go = asyncio.Event()

    async def slow():
        yield lines[: 1 << 20]
        await go.wait()
        yield lines[1 << 20 :]

    world.store.pages[PATH] = Page(slow)
    crl, kept = world.folder / "ca.crl", (world.folder / "ca.crl").read_bytes()
    try:
        with wire.connect(world.proxy.url, world.shows(bi)) as sock:
            fields = f"Host: localhost\r\nAuthorization: Bearer {alice(world)}\r\n"
            sock.sendall(f"GET {PATH} HTTP/1.1\r\n{fields}\r\n".encode())
            received = sock.recv(1 << 16)
            crl.write_bytes(world.authority.revoke(bi))
            world.proxy._background.run(world.proxy.app.tls.reload())
            world.proxy._background.loop.call_soon_threadsafe(go.set)
            answer = wire.parse(received + wire.rest(sock))
        assert answer.status == 200 and not answer.whole
        assert until(lambda: world.proxy.events()[-1].ended == "expired")
    finally:
        crl.write_bytes(kept)
        world.proxy._background.run(world.proxy.app.tls.reload())
        world.store.pages[PATH] = Page(sales.as_csv(sales.rows(20)))


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_an_old_version_of_tls_is_not_spoken(world, version):
    """TLS 1.2 is the oldest: an offer of less fails."""
    context = world.shows(None)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="is deprecated"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with pytest.raises((ssl.SSLError, ConnectionError)):
        wire.connect(world.proxy.url, context)
