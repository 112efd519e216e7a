"""A8: of which hosts requests may be, over sockets: those that are listed, or else the certificate's own."""

from __future__ import annotations

import json
import shutil
from urllib.parse import urlsplit

import pytest

from tests.harness import sales, wire
from tests.harness.pki import EDI, LOCAL, SERVER, Authority, dns, trusting
from tests.harness.proxy import Proxy, stage
from tests.harness.store import Page, Store

PATH = "/sales/daily.csv"
pytestmark = pytest.mark.threat("A8")


def held(proxy: Proxy, store: Store, hosts: dict[str, int], ca: wire.Trust = None) -> None:
    """Each host has that status; what is refused is on record, and asks the store nothing."""
    store.pages[PATH] = Page(sales.as_csv(sales.rows(20)))
    alice = proxy.issuer.token("alice", groups=("analysts",))
    for host, status in hosts.items():
        asked = len(store.asked)
        answer = wire.get(proxy.url, PATH, token=alice, headers={"Host": host}, ca=ca)
        assert answer.status == status, host
        event = next(each for each in proxy.events() if each.access == answer.event)
        if status == 421:
            assert (event.step, event.status, event.cause) == ("refusal", 421, "foreign-host")
            assert len(store.asked) == asked and b"evil" not in answer.body
            assert json.loads(answer.body)["type"] == "urn:counterfoil:problem:misdirected-request"
        else:
            assert len(store.asked) == asked + 1
            assert store.asked[-1][1]["host"] == urlsplit(store.url).netloc


def test_without_a_certificate_they_are_of_this_machine(proxy, store):
    """By default: a page whose own name has been resolved to this machine gets nothing (DNS rebinding)."""
    own = ("localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:80", "[::1]", "[0:0:0:0:0:0:0:1]:9")
    foreign = (
        "evil.example",
        "x",
        "127.0.0.2",
        "[::2]",
        "localhost.",
        "a.localhost",
        "127.1",
        "2130706433",
    )
    held(proxy, store, dict.fromkeys(own, 200) | dict.fromkeys(foreign, 421))


def test_with_one_they_are_those_that_it_names(tmp_path):
    """By default, and of a new certificate at once; one that names none is not taken."""
    authority = Authority()
    listen = authority.listening(tmp_path)

    def certify(*names) -> None:
        certificate, key = authority.issue(*names, usage=SERVER).write(tmp_path, "new")
        shutil.copy(certificate, tmp_path / "server.crt")
        shutil.copy(key, tmp_path / "server.key")

    certify(*LOCAL, dns("Reports.example.com"), dns("*.shops.example.com"))
    with stage(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, listen=listen) as (
        store,
        proxy,
    ):
        first = {
            "reports.example.com": 200, "REPORTS.EXAMPLE.COM:8443": 200, "localhost": 200, "127.0.0.1": 200,
            "lyon.shops.example.com": 200, "a.lyon.shops.example.com": 421, "shops.example.com": 421,
            "evil.example": 421, "numbers.example.com": 421,
        }  # fmt: skip
        held(proxy, store, first, trusting(authority))
        certify(*LOCAL, dns("numbers.example.com"))
        assert proxy.reload()
        second = {"numbers.example.com": 200, "reports.example.com": 421, "localhost": 200}
        held(proxy, store, second, trusting(authority))
        certify()
        assert not proxy.reload()
        assert "names no host" in proxy.app.tls.untaken["certificate"]
        held(proxy, store, second, trusting(authority))


@pytest.mark.parametrize(
    "san",
    [EDI, b"\x30\x03\x82\x01*", b"\x30\x04\x82\x02*.", b"\x30\x0a\x87\x08\x0a\0\0\0\xff\0\0\0", b"\x30\0"],
    ids=["no names", "a star", "a star above all", "a network", "nothing"],
)  # fmt: skip
def test_one_whose_names_are_no_hosts_counts_where_some_are_listed_alone(tmp_path, san):
    """Names of other kinds, stars alone, a network: told as what names none, and a new policy is taken."""
    authority = Authority()
    listen = authority.listening(tmp_path)
    odd = authority.issue(named=san, usage=SERVER)
    with stage(tmp_path / "a", reports=sales.REPORTS, rules=sales.RULES, listen=listen) as (
        store,
        proxy,
    ):
        odd.write(tmp_path, "server")
        proxy.home.write(
            "policy.csv", sales.RULES + "p, user:zoe, sales/daily, read, true, allow\n"
        )
        before = proxy.app.policy.snapshot.version
        assert not proxy.reload() and proxy.app.policy.snapshot.version != before
        assert "names no host" in proxy.app.tls.untaken["certificate"]
        held(proxy, store, {"localhost": 200, "a.": 421, "10.0.0.0": 421}, trusting(authority))
    listen += ", names: [localhost]"
    with stage(tmp_path / "b", reports=sales.REPORTS, rules=sales.RULES, listen=listen) as (
        _,
        proxy,
    ):
        assert not proxy.app.tls.hosts and not proxy.app.tls.untaken


def test_where_names_are_listed_they_are_those(tmp_path):
    """A host that is not is 421, with a good token too."""
    names = ", names: [Reports.example.com, '[0::1]', '*.example.org']"
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES, listen=names) as (store, proxy):
        hosts = {
            "reports.example.com": 200, "REPORTS.example.com:8443": 200, "[::1]:1": 200, "a.example.org": 200,
            "evil.example": 421, "reports.example.com.": 421, "127.0.0.1": 421, "example.org": 421,
        }  # fmt: skip
        held(proxy, store, hosts)


@pytest.mark.parametrize("path", ["/-/grants", "/-/reveal", "/-/lockdowns", "/-/logs", "/nothing"])
def test_no_door_opens_to_a_foreign_host(proxy, store, path):
    """Whatever is asked for, and with what method."""
    for method in ("GET", "POST", "DELETE"):
        answer = wire.get(proxy.url, path, method=method, headers={"Host": "evil.example"})
        assert answer.status == 421 and answer.headers["connection"] == "close"


def test_a_health_check_may_be_of_any_host_and_is_told_no_reasons(proxy):
    """Load balancers ask by address; a page in a browser of this machine learns no version of a policy."""
    for host, much in (("evil.example", False), ("127.0.0.1", True)):
        answer = proxy.get("/-/ready", headers={"Host": host})
        assert answer.status == 200 and ("version" in json.loads(answer.body)) == much
