"""A permit that ends while an answer is made: nothing more is released by it, and nothing at all before."""

from __future__ import annotations

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
from aiohttp import web

from proxy.gateway.view import BLOCK
from tests.gateway.reloading import soon
from tests.harness.proxy import SUBJECTS, stage
from tests.harness.store import Page

REPORTS = """\
stores: {main: {url: "{store}", loopback: true}}
reports:
  r/plain:
    title: Rows as the store has them
    store: main
    key: [k]
    variants: [{path: /plain.csv, format: csv}]
    fields:
      k: {type: text, class: public}
      s: {type: text, class: personal}
  r/sorted:
    title: Rows in an order that tells of a hidden field
    store: main
    ordered_by: [s]
    key: [k]
    variants: [{path: /sorted.csv, format: csv}]
    fields:
      k: {type: text, class: public}
      s: {type: text, class: personal}
"""
RULES = """\
p,  tool:app, r/*, act,  true, allow
p,  role:x,   r/*, read, true, allow
p2, role:x,   r/*, true, k, partial(last=7)
g,  group:x,  role:x
"""
DENY = "p,  anyone,   r/*, read, true, deny\n"
SHORT = b"k,s\n" + b"".join(b"key%07d,s\n" % n for n in range(100))
LONG = b"k,s\n" + b"".join(b"key%07d,s\n" % n for n in range(100_000))


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path, reports=REPORTS, rules=RULES) as running:
        yield running


def while_the_store_waits(world, path, body, change, *, lifetime=600.0, **claims):
    """The answer to a request during which `change` happens, before the store has said anything."""
    store, proxy = world
    gate = asyncio.Event()

    async def gated():
        await gate.wait()
        yield body

    store.pages[path] = Page(gated)
    token = proxy.issuer.token("alice", groups=("x",), lifetime=lifetime, **claims)
    with ThreadPoolExecutor(1) as aside:
        asked = aside.submit(proxy.get, path, token=token)
        try:
            assert soon(lambda: store.asked)
            change(token)
        finally:
            store._background.loop.call_soon_threadsafe(gate.set)
        return asked.result(timeout=30)


@pytest.mark.parametrize("path", ["/plain.csv", "/sorted.csv"])
@pytest.mark.parametrize("body", [SHORT, LONG], ids=["short", "long"])
def test_a_grant_that_is_gone_before_the_first_byte_gives_none(world, path, body):
    """What was granted when it was asked for is refused where it is denied before it is released."""
    _, proxy = world

    def deny(_):
        proxy.home.write("policy.csv", RULES + DENY)
        assert proxy.reload()

    answer = while_the_store_waits(world, path, body, deny)
    assert answer.status == 404 and b"key" not in answer.body
    (record,) = [event for event in proxy.events() if event.access == answer.event]
    assert (record.step, record.policy) == ("refusal", proxy.app.gateway.snapshot.version)


@pytest.mark.parametrize("path", ["/plain.csv", "/sorted.csv"])
def test_an_answer_is_of_the_policy_in_force_when_its_first_byte_leaves(world, path):
    """A plan that changed meanwhile is found anew, and the answer is whole by the new one."""
    _, proxy = world

    def coarser(_):
        proxy.home.write("policy.csv", RULES.replace("last=7", "last=2"))
        assert proxy.reload()

    answer = while_the_store_waits(world, path, LONG, coarser)
    assert answer.status == 200 and answer.whole
    assert {line[:-2] for line in answer.body.split()[1:]} == {b"***"}
    records = [event for event in proxy.events() if event.access == answer.event]
    assert {record.policy for record in records} == {proxy.app.gateway.snapshot.version}


def test_a_token_that_ends_before_the_first_byte_gives_none(world):
    """The answer is the one that a second request would have by then."""
    _, proxy = world

    def wait(token):
        assert soon(lambda: proxy.get("/none.csv", token=token).status == 401)

    lifetime = 2 - 30  # an issuer's clock may differ by 30 seconds
    answer = while_the_store_waits(world, "/plain.csv", SHORT, wait, lifetime=lifetime)
    assert answer.status == 401


@pytest.mark.parametrize("body", [SHORT, LONG], ids=["short", "long"])
def test_a_token_for_one_request_is_good_to_the_end_of_that_request(world, body):
    """It is looked at again by another policy that gives the same, and is not taken for a replayed one."""
    _, proxy = world
    once = SUBJECTS.format(issuer=proxy.issuer.name).replace(
        "prefix:", "single_use: 10\n    prefix:"
    )
    assert once.count("single_use") == 1
    proxy.home.write("subjects.yaml", once)
    assert proxy.reload()

    def another_policy(_):
        proxy.home.write("policy.csv", RULES + "g, group:y, role:x\n")
        assert proxy.reload()

    answer = while_the_store_waits(world, "/plain.csv", body, another_policy, jti="one")
    assert answer.status == 200 and answer.whole
    assert answer.body.count(b"\n") == body.count(b"\n")
    records = [event for event in proxy.events() if event.access == answer.event]
    assert {record.policy for record in records} == {proxy.app.gateway.snapshot.version}
    replayed = proxy.get("/plain.csv", token=proxy.issuer.token("alice", groups=("x",), jti="one"))
    assert replayed.status == 401


def test_a_policy_that_keeps_changing_is_told_and_not_waited_for(world):
    """A request is decided anew a few times, and then refused: it never goes on for ever."""
    store, proxy = world
    changes = itertools.count(1)

    async def changing():
        last = next(changes)
        proxy.home.write("policy.csv", RULES.replace("last=7", f"last={last}"))
        await proxy.app.reload()
        yield SHORT

    store.pages["/plain.csv"] = Page(changing)
    answer = proxy.get("/plain.csv", token=proxy.issuer.token("alice", groups=("x",)))
    assert answer.status == 503 and next(changes) == 4
    (record,) = [event for event in proxy.events() if event.access == answer.event]
    assert record.cause == "policy-changing"


def test_a_longer_answer_says_how_it_ended_with_its_last_block_alone(world):
    """Even where all of it is ready at once, its first record is an intent."""
    store, proxy = world
    store.pages["/sorted.csv"] = Page(LONG)
    answer = proxy.get("/sorted.csv", token=proxy.issuer.token("alice", groups=("x",)))
    assert answer.whole and len(answer.body) > 2 * BLOCK
    records = [event for event in proxy.events() if event.access == answer.event]
    assert [(record.step, record.ended) for record in records] == [
        ("intent", ""),
        ("outcome", "whole"),
    ]
    assert len(answer.body) - BLOCK <= records[0].bytes < records[1].bytes == len(answer.body)


def test_of_many_blocks_on_record_each_is_released_only_while_the_permit_stands(world, monkeypatch):
    """A deny cuts between two blocks, also between two that share a record."""
    store, proxy = world
    store.pages["/sorted.csv"] = Page(LONG)
    write = web.StreamResponse.write
    written = []

    async def denying(self, data):
        if not written and len(data) == BLOCK:
            proxy.home.write("policy.csv", RULES + DENY)
            assert await proxy.app.reload()
        if len(data) == BLOCK:
            written.append(data)
        await write(self, data)

    monkeypatch.setattr(web.StreamResponse, "write", denying)
    answer = proxy.get("/sorted.csv", token=proxy.issuer.token("alice", groups=("x",)))
    assert len(written) == 1 and not answer.whole
    assert soon(lambda: proxy.events()[-1].ended)
    records = [event for event in proxy.events() if event.access == answer.event]
    assert [(record.step, record.ended) for record in records] == [
        ("intent", ""),
        ("outcome", "policy-changed"),
    ]
    assert records[0].bytes >= 2 * BLOCK
