"""What a load balancer says of a client: read in one way, from listed addresses alone, before TLS where it must be."""

from __future__ import annotations

import base64
import contextlib
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gateway.forwarding import (
    NotRead,
    client_certificate,
    forwarded_for,
    parse_v1,
    parse_v2,
    read_header,
)
from tests.harness import sales, wire
from tests.harness.pki import SERVER, Authority, trusting, uri
from tests.harness.proxy import Proxy, stage
from tests.harness.store import Page

PATH = "/sales/daily.csv"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
BI = uri("spiffe://example.com/bi")
V4, V6 = st.ip_addresses(v=4), st.ip_addresses(v=6)
PORT = st.integers(0, 65535)


def v1(source, target, ports) -> bytes:
    kind = "TCP4" if source.version == 4 else "TCP6"
    return f"PROXY {kind} {source} {target} {ports[0]} {ports[1]}\r\n".encode()


def v2(source, target, ports, *, more: bytes = b"", command: int = 0x21) -> bytes:
    body = (
        source.packed + target.packed + b"".join(port.to_bytes(2, "big") for port in ports) + more
    )
    family = 0x11 if source.version == 4 else 0x21
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body


HEADERS = st.one_of(st.tuples(V4, V4), st.tuples(V6, V6))


def told(address: IPv4Address | IPv6Address) -> str:
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


async def fed(data: bytes, *, at_most: int) -> tuple[str | None, bytes]:
    """What is read of `data`, which comes in pieces, and what is left."""
    left = data

    async def receive(most: int) -> bytes:
        nonlocal left
        piece, left = left[: min(most, at_most)], left[min(most, at_most) :]
        return piece

    return await read_header(receive), left


@given(
    HEADERS,
    st.tuples(PORT, PORT),
    st.sampled_from([1, 3, 4096]),
    st.binary(max_size=40),
    st.booleans(),
)
async def test_a_header_is_read_and_not_a_byte_more(addresses, ports, at_most, behind, binary):
    """Whole or byte by byte, the client's address comes out, and what follows is left for TLS."""
    header = (v2 if binary else v1)(*addresses, ports)
    if "%" in str(addresses):
        return
    assert await fed(header + behind, at_most=at_most) == (told(addresses[0]), behind)


@given(HEADERS, st.tuples(PORT, PORT), st.data())
async def test_a_header_that_is_cut_off_or_damaged_is_read_as_it_is_or_not_at_all(
    addresses, ports, data
):
    """No byte more or less, and no other byte, makes a header of something that is none."""
    header = data.draw(st.sampled_from([v1, v2]))(*addresses, ports)
    cut = data.draw(st.integers(0, len(header) - 1))
    with pytest.raises(NotRead):
        await fed(header[:cut], at_most=4096)
    place, other = data.draw(st.integers(0, 13)), data.draw(st.integers(0, 255))
    if header[place] != other and not header.startswith(b"PROXY"):
        damaged = header[:place] + bytes([other]) + header[place + 1 :]
        if damaged[12] == 0x20 or damaged[12:14] == b"\x21\x00":
            assert await fed(damaged, at_most=4096) == (None, b"")
            return
        with pytest.raises(NotRead):
            await fed(damaged, at_most=4096)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_address_or_nothing(data):
    """Whatever comes, parsing gives an address in its one form, or None for the balancer itself, or NotRead."""
    for parse in (parse_v1, parse_v2):
        for head in (data, b"PROXY " + data + b"\r\n", SIGNATURE + data):
            with contextlib.suppress(NotRead):
                found = parse(head)
                assert found is None or str(ip_address(found)) == found


@pytest.mark.parametrize(
    "line",
    [b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", b"PROXY TCP4 ::1 ::1 1 2\r\n",
     b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n", b"PROXY TCP4 1.2.3.04 5.6.7.8 1 2\r\n",
     b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
     b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r\n", b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
     b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", b"PROXY UNKNOWN " + b"a" * 100 + b"\r\n", b"PROXY TCP4\r\n", b"PROXY \r\n"],
)  # fmt: skip
def test_a_line_of_version_1_has_one_form(line):
    """What haproxy's text does not allow is not read."""
    with pytest.raises(NotRead):
        parse_v1(line)


def test_a_balancer_may_ask_for_itself():
    """UNKNOWN and LOCAL: its own address stands."""
    source, target = ip_address("192.0.2.1"), ip_address("192.0.2.2")
    assert parse_v1(b"PROXY UNKNOWN\r\n") is None
    assert parse_v1(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n") is None
    assert parse_v2(v2(source, target, (1, 2), command=0x20)) is None
    assert parse_v2(v2(source, target, (1, 2), more=b"\x03\x00\x04abcd")) == "192.0.2.1"


def test_an_unspecified_family_is_the_connections_own_address():
    """PROXY with UNSPEC, what a balancer sends of what it has no family for: its own address stands."""
    head = SIGNATURE + b"\x21\x00"
    for body in (b"", b"abc", IPv4Address("192.0.2.1").packed * 3):
        assert parse_v2(head + len(body).to_bytes(2, "big") + body) is None
    with pytest.raises(NotRead):
        parse_v2(head + b"\x00\x01")
    for family in (0x01, 0x02, 0x10, 0x12, 0x20, 0x31):
        with pytest.raises(NotRead):
            parse_v2(SIGNATURE + bytes([0x21, family]) + (216).to_bytes(2, "big") + bytes(216))


TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("values", "client"),
    [
        ([], None),
        (["192.0.2.7"], "192.0.2.7"),
        (["6.6.6.6, 192.0.2.7"], "192.0.2.7"),
        (["6.6.6.6, 192.0.2.7, 10.1.1.1"], "192.0.2.7"),
        (["6.6.6.6", "192.0.2.7,10.1.1.1"], "192.0.2.7"),
        (["10.0.0.5, 10.0.0.6"], "10.0.0.5"),
        (["2001:db8::1, fd00::2"], "2001:db8::1"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
    ],
)
def test_the_client_is_the_last_address_that_is_no_balancers(values, client):
    """What a client wrote before it counts for nothing."""
    assert forwarded_for(values, TRUSTED) == client


@pytest.mark.parametrize(
    "value", ["", "unknown", "1.2.3.4:80", "a, 1.2.3.4", "1.2.3.4,", "[::1]", "1.2.3", "fe80::1%1"]
)
def test_a_field_that_is_no_list_of_addresses_is_not_read(value):
    """A part that is no address makes all of it nothing."""
    with pytest.raises(NotRead):
        forwarded_for([value], TRUSTED)


def test_a_list_of_very_many_addresses_is_not_read():
    """What a client writes costs no more than some addresses: thousands of them take a second."""
    assert forwarded_for(["::1," * 62 + "::1", "6.6.6.6"], TRUSTED) == "6.6.6.6"
    for values in (["::1," * 64 + "6.6.6.6"], ["::1"] * 64 + ["6.6.6.6"]):
        with pytest.raises(NotRead):
            forwarded_for(values, TRUSTED)


@given(st.lists(st.text(max_size=40), max_size=3))
def test_any_fields_are_an_address_a_certificate_or_nothing(values):
    """Neither field ever raises anything but NotRead."""
    with contextlib.suppress(NotRead):
        found = forwarded_for(values, TRUSTED)
        assert found is None or str(ip_address(found)) == found
    with contextlib.suppress(NotRead):
        assert isinstance(client_certificate(values), bytes | None)


@given(st.binary(min_size=1, max_size=100))
def test_a_certificate_in_a_field_is_a_byte_sequence(der):
    """RFC 8941 §3.3.5: base64 between colons, and in no other way."""
    text = base64.b64encode(der).decode()
    assert client_certificate([f":{text}:"]) == der
    for other in (
        text,
        f":{text}",
        f":{text}:;a=1",
        f":{text}:, :{text}:",
        f'"{text}"',
        f": {text}:",
    ):
        with pytest.raises(NotRead):
            client_certificate([other])
    with pytest.raises(NotRead):
        client_certificate([f":{text}:", f":{text}:"])


# ── on the wire ──


@dataclass
class World:
    proxy: Proxy
    authority: Authority

    def get(self, *, before: bytes = b"", token: str | None = None, **fields: str) -> wire.Answer:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        return wire.get(
            self.proxy.url,
            PATH,
            ca=trusting(self.authority),
            before=before,
            token=token,
            headers=headers,
        )

    def event(self, answer: wire.Answer):
        (event,) = [each for each in self.proxy.events() if each.access == answer.event]
        return event


TOOLS = """\
tools:
  - {tool: bi, certificates: ["URI:spiffe://example.com/bi"]}
"""


@contextlib.contextmanager
def world(folder, balancers: str):
    authority = Authority()
    (folder / "ca.pem").write_bytes(authority.pem)
    listen = f"{authority.listening(folder)}, clients: {{authority: {folder}/ca.pem}}{balancers}"
    rules = sales.RULES + (
        "p,  tool:bi, sales/*, act, true, allow\np, tool:bi, sales/daily, read, true, allow\n"
        "p2, tool:bi, sales/daily, true, region, clear\n"
    )
    with stage(folder / "home", reports=sales.REPORTS, rules=rules, listen=listen) as (
        store,
        proxy,
    ):
        subjects = proxy.home.policies / "subjects.yaml"
        subjects.write_text(subjects.read_text() + TOOLS)
        assert proxy.reload()
        store.pages[PATH] = Page(sales.as_csv(sales.rows(20)))
        yield World(proxy, authority)


def until(condition) -> bool:
    ends = time.monotonic() + 20
    while not condition() and time.monotonic() < ends:
        time.sleep(0.02)
    return condition()


CLIENT = v2(ip_address("192.0.2.7"), ip_address("192.0.2.1"), (5000, 443))


def test_a_listed_balancers_header_stands_before_tls(tmp_path):
    """Both versions give the client's address; a connection without one, or with a damaged one, is closed."""
    listed = ", balancers: {addresses: [127.0.0.1], proxy_protocol: true}"
    with world(tmp_path, listed) as at:
        token = at.proxy.issuer.token("alice", groups=("analysts",))
        for before in (CLIENT, b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n"):
            answer = at.get(before=before, token=token)
            assert answer.status == 200 and at.event(answer).address == "192.0.2.7"
        for before in (b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x21\x00\x00\x00"):
            answer = at.get(before=before, token=token)
            assert answer.status == 200 and at.event(answer).address == "127.0.0.1"
        refused = at.proxy.app.connections.refused
        hello = b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03"
        for before in (hello * 20, b"PROXY TCP4 192.0.2.7\r\n", CLIENT[:12] + b"\xff" * 200):
            count = refused["no-proxy-header"]
            plain = at.proxy.url.replace("https:", "http:")
            assert wire.exchange(plain, before) == b""
            assert until(lambda count=count: refused["no-proxy-header"] == count + 1)
        assert until(lambda: at.proxy.app.connections.open == 0)


@pytest.mark.threat("A9")
def test_a_header_from_elsewhere_is_no_tls(tmp_path):
    """A9: whoever is not listed and sends a PROXY header gets no connection, and no other address."""
    with world(tmp_path, ", balancers: {addresses: [192.0.2.250], proxy_protocol: true}") as at:
        plain = at.proxy.url.replace("https:", "http:")
        assert b"HTTP/" not in wire.exchange(plain, CLIENT)  # an alert, or nothing
        assert until(lambda: at.proxy.app.connections.refused["tls-failed"] == 1)
        answer = at.get()
        assert answer.status == 401 and at.event(answer).address == "127.0.0.1"


def forwarded(authority: Authority, **more) -> str:
    return f":{base64.b64encode(authority.issue(BI, **more).der).decode()}:"


BELIEVED = ", balancers: {addresses: [127.0.0.1], forwarded_for: true, client_certificate: true}, names: [127.0.0.1]"


@pytest.mark.threat("A9", "C31")
def test_a_listed_balancers_fields_say_who_the_client_is(tmp_path):
    """Address and certificate are the client's; a certificate that is not good is refused all the same."""
    with world(tmp_path, BELIEVED) as at:
        good = forwarded(at.authority)
        answer = at.get(Client_Cert=good, X_Forwarded_For="6.6.6.6, 192.0.2.7")
        event = at.event(answer)
        assert answer.status == 200 and (event.tool, event.address) == ("tool:bi", "192.0.2.7")
        for value, cause in (
            (forwarded(Authority()), "certificate-issuer"),
            (forwarded(at.authority, usage=SERVER), "certificate-usage"),
            (":AAAA:", "certificate-malformed"),
        ):
            answer = at.get(Client_Cert=value)
            assert answer.status == 401 and at.event(answer).cause == cause
        for fields in (
            {"Client_Cert": "garbage"},
            {"X_Forwarded_For": "garbage", "Client_Cert": good},
        ):
            answer = at.get(**fields)
            assert answer.status == 400 and at.event(answer).cause == "forwarded-client"
            assert at.event(answer).address == "127.0.0.1"


@pytest.mark.threat("A9")
@pytest.mark.parametrize("balancers", ["", BELIEVED.replace("127.0.0.1", "192.0.2.250", 1)])
def test_from_anybody_else_such_fields_mean_nothing(tmp_path, balancers):
    """A9: no client makes itself a tool, or another address, by a field."""
    with world(tmp_path, balancers) as at:
        fields = {
            "Client_Cert": forwarded(at.authority), "X_Forwarded_For": "192.0.2.7", "Forwarded": "for=192.0.2.7",
            "X_Forwarded_Client_Cert": "Subject=bi", "X_SSL_Client_Verify": "SUCCESS", "X_Real_IP": "192.0.2.7",
        }  # fmt: skip
        answer = at.get(**fields)
        assert answer.status == 401
        event = at.event(answer)
        assert (event.address, event.certificate, event.cause) == ("127.0.0.1", "", "token-missing")
