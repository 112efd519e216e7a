"""Purposes over real sockets: which is needed, which is none, and what each access has on record."""

from __future__ import annotations

import csv
import io

import pytest

from tests.harness import sales
from tests.harness.proxy import stage
from tests.harness.store import Page

DAILY, AUDITED = "/sales/daily.csv", "/sales/audited.csv"
RULES = (
    sales.RULES
    + """\
p2, role:analyst, sales/daily, true, buyer_email, pseudonym
p,  role:auditor, sales/daily, read, env.purpose == 'audit', allow
p,  role:auditor, sales/daily, read, env.purpose == 'reconcile', allow
p2, role:auditor, sales/daily, true, @public, clear
p,  role:auditor, sales/daily, read, env.purpose == 'reconcile', deny
g,  group:auditors, role:auditor
"""
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with stage(tmp_path_factory.mktemp("purposes"), reports=sales.REPORTS, rules=RULES) as (
        store,
        proxy,
    ):
        store.pages[DAILY] = Page(sales.as_csv(sales.rows(5)))
        yield store, proxy


def ask(world, path, *purposes, group="analysts", query=""):
    """The answer and what is on record of it; several purposes are several header fields."""
    _, proxy = world
    head = {"Counterfoil-Purpose": "\r\nCounterfoil-Purpose: ".join(purposes)} if purposes else {}
    token = proxy.issuer.token("alice", groups=(group,))
    answer = proxy.get(path + query, token=token, headers=head)
    events = [event for event in proxy.events() if event.access == answer.event]
    return answer, events[-1]


@pytest.mark.parametrize(
    ("path", "purposes", "group", "status", "purpose", "cause"),
    [
        (AUDITED, ("audit",), "analysts", 200, "audit", ""),
        (AUDITED, ("reconcile",), "analysts", 403, "reconcile", "purpose-required"),
        (AUDITED, (), "analysts", 403, "", "purpose-required"),
        (AUDITED, ("fun",), "analysts", 400, None, "unknown-purpose"),
        (AUDITED, ("Audit",), "analysts", 400, None, "unknown-purpose"),
        (AUDITED, ("audit, reconcile",), "analysts", 400, None, "unknown-purpose"),
        (AUDITED, ("audit", "audit"), "analysts", 400, None, "unknown-purpose"),
        (AUDITED, ("",), "analysts", 400, None, "unknown-purpose"),
        (DAILY, (), "analysts", 200, "", ""),
        (DAILY, ("reconcile",), "analysts", 200, "reconcile", ""),
        (DAILY, ("fun",), "analysts", 400, None, "unknown-purpose"),
        (DAILY, ("\xe9\xff",), "analysts", 400, None, "unknown-purpose"),
        (DAILY, ("audit",), "auditors", 200, "audit", ""),
        (DAILY, ("reconcile",), "auditors", 403, "reconcile", "purpose-required"),
        (AUDITED, ("audit",), "nobody", 404, "audit", "no-allow-line"),
        (AUDITED, ("fun",), "nobody", 404, None, "no-allow-line"),
        ("/sales/none.csv", ("audit",), "analysts", 404, "audit", "unknown-report"),
        ("/sales/none.csv", ("fun",), "analysts", 404, None, "unknown-report"),
        ("/sales/%", ("audit",), "analysts", 400, "audit", "target-syntax"),
    ],
)
def test_a_purpose_is_decided_by_and_is_on_record(
    world, path, purposes, group, status, purpose, cause
):
    """A listed one that the policy asks for permits, none or another is 403, an unlisted one 400; to
    somebody without a grant it is the same 404; and each event has the purpose, or a digest of what is none.
    """
    store, _ = world
    before = len(store.asked)
    store.pages[AUDITED.replace("audited", "daily")] = Page(sales.as_csv(sales.rows(5)))
    answer, event = ask(world, path, *purposes, group=group)
    assert answer.status == status
    assert event.cause == cause
    if purpose is None:
        assert event.purpose.startswith("hmac:") and (purposes[0] or "-") not in event.purpose
    else:
        assert event.purpose == purpose
    assert (len(store.asked) > before) == (status == 200)


def test_a_purpose_is_on_record_of_who_shows_no_token(world):
    """Whoever states one is held to it, refused or not."""
    _, proxy = world
    answer = proxy.get(DAILY, headers={"Counterfoil-Purpose": "audit"})
    (event,) = [event for event in proxy.events() if event.access == answer.event]
    assert (answer.status, event.purpose) == (401, "audit")


def test_a_purpose_that_is_no_text_is_one_that_is_not_listed(world):
    """Bytes that are no UTF-8, of whoever shows no token: refused for that, and on record as a digest."""
    _, proxy = world
    answer = proxy.get(DAILY, headers={"Counterfoil-Purpose": "\xff"})
    (event,) = [event for event in proxy.events() if event.access == answer.event]
    assert answer.status == 401 and event.purpose.startswith("hmac:")


def test_an_unlisted_purpose_is_told_only_after_a_grant(world):
    """Somebody without a grant gets the same answer for a listed purpose, an unlisted one and none."""
    seen = {ask(world, AUDITED, *p, group="nobody")[0].seen() for p in [(), ("audit",), ("fun",)]}
    assert len(seen) == 1


@pytest.mark.threat("G61")
def test_pseudonyms_of_two_purposes_cannot_be_joined(world):
    """The same cell has another pseudonym for each purpose, and the same one for one purpose."""

    def pseudonyms(*purposes):
        answer, _ = ask(world, DAILY, *purposes)
        rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
        return tuple(row["buyer_email"] for row in rows)

    none, audit, reconcile = pseudonyms(), pseudonyms("audit"), pseudonyms("reconcile")
    assert len({*none, *audit, *reconcile}) == 15
    assert audit == pseudonyms("audit")
