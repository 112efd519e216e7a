"""While policies alternate under load, each answer is that of one whole version: the one on its record."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.gateway.reloading import PATH, in_force, loads, soon
from tests.harness import sales, wire
from tests.harness.proxy import Proxy, stage
from tests.harness.store import Page

CLIENTS = 64
GOOD = (
    sales.RULES,
    sales.RULES.replace("round(100)", "round(1000)").replace("@public|@internal", "@public"),
    sales.RULES + "p, role:analyst, sales/daily, read, true, deny\n",
)
"""Other values, other columns, another status."""
BAD = "p, role:analyst, sales/daily, read, true\n"


def put(proxy: Proxy, text: str) -> None:
    """Write policy.csv in one step, as an editor or a deployment does."""
    new = proxy.home.folder / "policy.new"
    new.write_text(text)
    new.replace(proxy.home.policies / "policy.csv")


@contextmanager
def asking(proxy: Proxy) -> Iterator[list[wire.Answer]]:
    """The answers to clients that ask again and again, each on a connection of its own."""
    token = proxy.issuer.token("alice", groups=("analysts",))
    answers: list[wire.Answer] = []
    enough = threading.Event()

    def ask() -> None:
        while not enough.is_set():
            answers.append(proxy.get(PATH, token=token))

    clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield answers
    finally:
        enough.set()
        for client in clients:
            client.join()


@pytest.mark.parametrize("times", [9, pytest.param(200, marks=pytest.mark.prove)])
def test_each_answer_is_that_of_the_version_on_its_record(tmp_path, times):
    """PROMISE 3: no answer is torn or lost, good policies are taken, bad ones refused and recorded."""
    with stage(tmp_path, reports=sales.REPORTS, rules=GOOD[0]) as (store, proxy):
        store.pages[PATH] = Page(sales.as_csv(sales.rows(20)))
        token = proxy.issuer.token("alice", groups=("analysts",))
        expected, versions = {}, []
        for text in GOOD:
            put(proxy, text)
            assert proxy.reload()
            versions.append(in_force(proxy))
            expected[in_force(proxy)] = proxy.get(PATH, token=token).seen()
        assert len({str(answer) for answer in expected.values()}) == len(GOOD)

        with asking(proxy) as answers:
            for number in range(times):
                put(proxy, GOOD[number % len(GOOD)])
                assert proxy.reload()
                assert in_force(proxy) == versions[number % len(GOOD)]
                so_far = len(answers)
                put(proxy, "#\n" * number + BAD)
                assert not proxy.reload()
                assert in_force(proxy) == versions[number % len(GOOD)]
                assert soon(lambda so_far=so_far: len(answers) > so_far + CLIENTS)

        assert max(answer.status for answer in answers) < 500
        by_event = {event.access: event.policy for event in proxy.events()}
        decided = [by_event[answer.event] for answer in answers]
        assert set(decided) == set(versions)
        assert all(
            answer.seen() == expected[version]
            for answer, version in zip(answers, decided, strict=True)
        )
        taken = [event.policy for event in loads(proxy) if event.step == "policy-loaded"]
        assert taken == [*versions, *[versions[number % len(GOOD)] for number in range(times)]]
        refused = [event.lines for event in loads(proxy) if event.step == "policy-refused"]
        assert {(f"policy.csv:{number + 1}",) for number in range(times)} <= set(refused)
