"""The listener, as others see it: sslscan looks at its TLS, haproxy stands in front with PROXY headers."""

from __future__ import annotations

import shutil
import subprocess
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import pytest

from tests.harness import sales, wire
from tests.harness.pki import LOCAL, SERVER, Authority, trusting, uri
from tests.harness.proxy import stage
from tests.harness.store import Page
from tests.peers.running import free_port, serving

PATH = "/sales/daily.csv"
RULES = sales.RULES + (
    "p,  tool:bi, sales/*, act, true, allow\np, tool:bi, sales/daily, read, true, allow\n"
    "p2, tool:bi, sales/daily, true, region, clear\n"
)
TOOLS = 'tools:\n  - {tool: bi, certificates: ["URI:spiffe://example.com/bi"]}\n'
HAPROXY = """\
global
  maxconn 100
defaults
  mode tcp
  timeout connect 5s
  timeout client 20s
  timeout server 20s
frontend front
  bind 127.0.0.1:{port}
  default_backend back
backend back
  server one {there} {header}
"""


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed: nobody else looks at the listener")
    return found


@pytest.fixture
def world(tmp_path):
    """A proxy with TLS and clients' certificates, behind whoever comes from 127.0.0.1."""

    def begin(balancers: str = ""):
        authority = Authority()
        certificate, key = authority.issue(*LOCAL, usage=SERVER).write(tmp_path, "server")
        (tmp_path / "ca.pem").write_bytes(authority.pem)
        (tmp_path / "ca.crl").write_bytes(authority.revoke())
        listen = (
            f", certificate: {certificate}, key: {key},"
            f" clients: {{authority: {tmp_path}/ca.pem, revoked: {tmp_path}/ca.crl}}{balancers}"
        )
        return authority, stage(
            tmp_path / "home", reports=sales.REPORTS, rules=RULES, listen=listen
        )

    return begin


def test_sslscan_finds_nothing_to_say(world):
    """TLS 1.2 and 1.3 alone; each cipher with forward secrecy and authentication; no known fault."""
    sslscan = program("sslscan")
    _, running = world()
    with running as (_, proxy):
        place = urlsplit(proxy.url).netloc
        words = [sslscan, "--xml=-", "--no-colour", place]
        done = subprocess.run(words, capture_output=True, timeout=120, check=True)
    found = ET.fromstring(done.stdout).find("ssltest")
    assert found is not None
    spoken = {
        (each.get("type"), each.get("version"))
        for each in found.iter("protocol")
        if each.get("enabled") == "1"
    }
    assert spoken == {("tls", "1.2"), ("tls", "1.3")}
    ciphers = {each.get("cipher", ""): each.get("sslversion") for each in found.iter("cipher")}
    assert {*ciphers.values()} == {"TLSv1.2", "TLSv1.3"}
    for name in ciphers:
        assert name.startswith(("ECDHE-", "TLS_")), name
        assert "GCM" in name or "CHACHA20" in name, name
    assert {each.get("vulnerable") for each in found.iter("heartbleed")} <= {"0"}
    (renegotiation,) = found.iter("renegotiation")
    assert renegotiation.get("secure") == "1" or renegotiation.get("supported") == "0"
    assert {each.get("supported") for each in found.iter("compression")} <= {"0"}
    assert {each.get("supported") for each in found.iter("fallback")} <= {"1"}


@pytest.mark.parametrize("header", ["send-proxy", "send-proxy-v2"])
def test_haproxy_tells_who_the_client_is_and_its_certificate_comes_through(tmp_path, world, header):
    """A balancer that passes TLS on: the client's own certificate and address, whichever version it speaks."""
    haproxy = program("haproxy")
    authority, running = world(", balancers: {addresses: [127.0.0.1], proxy_protocol: true}")
    shown = trusting(
        authority, authority.issue(uri("spiffe://example.com/bi")).write(tmp_path, "bi")
    )
    with running as (store, proxy):
        subjects = proxy.home.policies / "subjects.yaml"
        subjects.write_text(subjects.read_text() + TOOLS)
        assert proxy.reload()
        store.pages[PATH] = Page(sales.as_csv(sales.rows(20)))
        port, there = free_port(), urlsplit(proxy.url).netloc
        file = tmp_path / "haproxy.cfg"
        file.write_text(HAPROXY.format(port=port, there=there, header=header))
        with serving([haproxy, "-f", str(file)], port):
            answer = wire.get(f"https://127.0.0.1:{port}", PATH, ca=shown)
        assert answer.status == 200
        (event,) = [each for each in proxy.events() if each.access == answer.event]
        assert (event.tool, event.address) == ("tool:bi", "127.0.0.1")
        assert proxy.app.connections.refused["no-proxy-header"] == 0
