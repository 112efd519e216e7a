"""A certified identity provider (oidc-provider) issues the tokens: two issuers, rotation, outage, introspection."""

from __future__ import annotations

import time
from collections.abc import Callable

import jwt
import pytest

from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.proxy import Home, running
from tests.harness.store import Page, Store
from tests.peers import oidc_provider
from tests.peers.oidc_provider import OPAQUE, providing, signing_key

pytestmark = pytest.mark.skipif(
    not oidc_provider.installed(), reason="oidc-provider is not installed: `make peers` with npm"
)

PATH = "/sales/daily.csv"
SUBJECTS = """\
issuers:
  - issuer: {ours}
    prefix: ""
    audience: [counterfoil]
    groups: {{claim: groups}}
    keys: {{refresh_seconds: 1, cool_down_seconds: 1}}
    introspection: {{client: counterfoil, secret: "file:secret", most_seconds: 1}}
  - issuer: {partner}
    prefix: partner/
    audience: [counterfoil]
    algorithms: [ES256]
    keys: {{refresh_seconds: 1, cool_down_seconds: 1}}
"""
RULES = """\
p,  tool:app,            sales/*, act,  true, allow
p,  tool:app,            sales/*, read, true, allow
p2, tool:app,            sales/*, true, units, clear
p,  group:analysts,      sales/*, read, true, allow
p2, group:analysts,      sales/*, true, date, clear
p,  user:alice,          sales/*, read, true, allow
p2, user:alice,          sales/*, true, store_id, clear
p,  tool:partner/app,    sales/*, act,  true, allow
p,  user:partner/alice,  sales/*, read, true, allow
p2, user:partner/alice,  sales/*, true, region, clear
"""


@pytest.fixture(scope="module")
def providers():
    with providing("RS256") as ours, providing("ES256") as partner:
        yield ours, partner


@pytest.fixture(scope="module")
def proxy(tmp_path_factory, providers):
    ours, partner = providers
    background = Background()
    store = Store(background)
    try:
        store.pages[PATH] = Page(sales.as_csv(sales.rows(5)))
        home = Home(
            tmp_path_factory.mktemp("w"), reports=sales.REPORTS, rules=RULES, store=store.url
        )
        home.write("secret", "introspection-secret")
        home.write("subjects.yaml", SUBJECTS.format(ours=ours.issuer, partner=partner.issuer))
        with running(home, background) as made:
            yield made
    finally:
        store.close()
        background.close()


def columns(answer: wire.Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return answer.body.decode().partition("\n")[0].strip().split(",")


def soon(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_each_issuer_s_alice_is_somebody_else_and_a_tool_is_itself(proxy, providers):
    """RS256 and ES256, by discovery: who logs in at one is no user of the other."""
    ours, partner = providers
    tokens = [each.log_in("alice") for each in providers]
    assert [jwt.get_unverified_header(each["access_token"])["alg"] for each in tokens] == ["RS256", "ES256"]  # fmt: skip
    found = [columns(proxy.get(PATH, token=each["access_token"])) for each in tokens]
    assert found == [["date", "store_id"], ["region"]]
    assert columns(proxy.get(PATH, token=ours.log_in("bob")["access_token"])) == ["date"]
    assert proxy.get(PATH, token=partner.log_in("bob")["access_token"]).status == 404
    assert columns(proxy.get(PATH, token=ours.as_client()["access_token"])) == ["units"]


def test_an_id_token_is_refused(proxy, providers):
    """It is signed by the same key, for the same user."""
    for each in providers:
        presented = each.log_in("alice")["id_token"]
        answer = proxy.get(PATH, token=presented)
        assert answer.status == 401
        (event,) = [event for event in proxy.events() if event.access == answer.event]
        assert event.cause == "token-type"


def test_an_opaque_token_is_asked_about_until_it_is_revoked(proxy, providers):
    """Introspection where the issuer says, as a client of its own."""
    ours, _ = providers
    presented = ours.log_in("alice", resource=OPAQUE)["access_token"]
    assert "." not in presented
    assert "store_id" in columns(proxy.get(PATH, token=presented))
    ours.revoke(presented)
    soon(lambda: proxy.get(PATH, token=presented).status == 401)
    assert proxy.get(PATH, token="never-issued").status == 401


def test_rotated_keys_take_over_and_those_before_them_stop_to_count(proxy, providers):
    """In mid-run: first both are in the set, then the new one alone, of another algorithm at that."""
    ours, _ = providers
    old, new = signing_key("RS256", "old"), signing_key("ES256", "new")
    ours.configure(algorithm="RS256", keys=[old])
    of_old = ours.log_in("alice")["access_token"]
    soon(lambda: proxy.get(PATH, token=of_old).status == 200)
    ours.configure(algorithm="ES256", keys=[new, old])
    of_new = ours.log_in("alice")["access_token"]
    assert jwt.get_unverified_header(of_new) == {"alg": "ES256", "typ": "at+jwt", "kid": "new"}
    soon(lambda: proxy.get(PATH, token=of_new).status == 200)
    assert proxy.get(PATH, token=of_old).status == 200
    ours.configure(algorithm="ES256", keys=[new])
    soon(lambda: proxy.get(PATH, token=of_old).status == 401)
    assert proxy.get(PATH, token=of_new).status == 200


def test_tokens_go_on_while_their_issuer_is_away_and_the_other_issuer_s_do_too(proxy, providers):
    """Known keys outlive an outage, for tokens that were never seen before it as well."""
    ours, partner = providers
    unseen, theirs = ours.log_in("alice")["access_token"], partner.log_in("alice")["access_token"]
    opaque = ours.log_in("alice", resource=OPAQUE)["access_token"]
    soon(lambda: proxy.get(PATH, token=ours.as_client()["access_token"]).status == 200)
    ours.stop()
    try:
        assert columns(proxy.get(PATH, token=unseen)) == ["date", "store_id"]
        assert columns(proxy.get(PATH, token=theirs)) == ["region"]
        assert proxy.get(PATH, token=opaque).status == 503
        assert wire.get(proxy.url, "/-/ready").status == 200
        assert proxy.reload()
        assert proxy.get(PATH, token=unseen).status == 200
    finally:
        ours.start()
    assert columns(proxy.get(PATH, token=ours.log_in("alice")["access_token"])) == [
        "date",
        "store_id",
    ]
