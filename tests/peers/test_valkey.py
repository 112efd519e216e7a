"""Budgets of several servers in a real Valkey: shared, atomic, and refused where it does not answer."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import ExitStack, contextmanager

import pytest

from proxy import doctor
from proxy.budgets.counters import Begun, BudgetsUnavailable, Charge, Over, Spent, Unknown
from proxy.policy.limits import Per
from tests.harness import sales
from tests.harness.background import Background
from tests.harness.proxy import Home, running
from tests.harness.store import Page, Store
from tests.peers import valkey as peer

pytest.importorskip("valkey")

from proxy.budgets.valkey import Valkey

pytestmark = pytest.mark.skipif(
    peer.found() is None, reason="no Valkey: apt-get install redis-server, or `make peers`"
)

PATH = "/sales/daily.csv"
LIMITS = "limits: [{who: anyone, reports: sales/*, what: rows, most: 50, per: week}]\n"


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.fixture
def port(folder):
    with peer.running(folder) as port:
        yield port


def connected(port: int) -> Valkey:
    return Valkey(f"valkey://127.0.0.1:{port}/0", password="budget-password")


async def settled(counters, subject, charges, *, keep=True, says=0):
    """Charge, where the log `says` so much of each counter."""
    found = await counters.charge(subject, charges, keep=keep)
    if isinstance(found, Unknown):
        per = {each.counter: each.per for each in charges}
        begun = [Begun(begin=each, per=per[each.counter], amount=says) for each in found.begin]
        await counters.begin(subject, begun)
        found = await counters.charge(subject, charges, keep=keep)
    return found


def test_a_doctor_asks_it_and_leaves_nothing(tmp_path, port):
    """`counterfoil doctor` says that it answers, or with another password that it does not."""
    settings = f"budgets: {{valkey: 'valkey://127.0.0.1:{port}/0', password: 'file:password'}}\n"
    home = Home(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, settings=settings)
    for password, says in (("budget-password", "it answers"), ("another", "does not answer")):
        (home.folder / "password").write_text(password)
        (told,) = [
            each.text for each in doctor.examine(home.settings, {}) if each.check == "shared"
        ]
        assert says in told

    async def keys() -> object:
        counters = connected(port)
        found = await counters._client.keys("*")
        await counters.close()
        return found

    assert asyncio.run(keys()) == []


def test_charges_are_taken_whole_or_not_at_all(port):
    """Over one limit nothing of the other is charged; a look charges nothing; reports count once each."""

    async def story():
        counters = connected(port)
        await counters.declare(["a", "b", "r"])
        a = Charge(counter="a", per=Per.WEEK, amount=6, most=10)
        b = Charge(counter="b", per=Per.MINUTE, amount=1 << 40, most=None)
        assert isinstance(await settled(counters, "alice", [b, a], keep=False), Spent)
        found = await settled(counters, "alice", [b, a])
        assert isinstance(found, Spent) and found.amounts["a"] == (0, 6)
        found = await settled(counters, "alice", [b, a])
        assert isinstance(found, Over) and found.counter == "a"
        assert found.window == Per.WEEK.window(found.now)
        one = Charge(counter="a", per=Per.WEEK, amount=1)
        assert (await settled(counters, "alice", [one])).amounts["a"] == (6, 7)
        assert (await settled(counters, "bob", [a])).amounts["a"] == (0, 6)
        for report, fits in (("x", True), ("y", True), ("x", True), ("z", False)):
            each = Charge(counter="r", per=Per.WEEK, amount=1, report=report, most=2)
            assert isinstance(await settled(counters, "alice", [each]), Spent) == fits
        await counters.declare(["a"])  # a gap: what the log says counts where it is more
        assert (await settled(counters, "alice", [one], says=9)).amounts["a"] == (9, 10)
        await counters.declare(["a"])
        assert (await settled(counters, "alice", [one], says=3)).amounts["a"] == (10, 11)
        assert [await counters.claim("x", 60) for _ in range(2)] == [True, False]
        await counters.close()

    asyncio.run(story())


def test_very_many_at_once_are_counted_exactly(port):
    """Of 200 charges on two connections' worth of clients, as many are taken as there is room for."""

    async def story():
        clients = [connected(port) for _ in range(2)]
        charge = Charge(counter="c", per=Per.WEEK, amount=3, most=100)
        await clients[0].declare(["c"])
        await settled(clients[0], "alice", [charge], keep=False)
        found = await asyncio.gather(
            *(clients[n % 2].charge("alice", [charge]) for n in range(200))
        )
        assert sum(isinstance(each, Spent) for each in found) == 33
        for client in clients:
            await client.close()

    asyncio.run(story())


def test_one_that_evicts_what_is_spent_counts_nothing(tmp_path, port):
    """Nothing is begun there while it may evict keys, and a doctor says what to set; else it counts."""
    settings = f"budgets: {{valkey: 'valkey://127.0.0.1:{port}/0', password: 'file:password'}}\n"
    home = Home(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, settings=settings)
    (home.folder / "password").write_text("budget-password")
    charge = Charge(counter="a", per=Per.WEEK, amount=6, most=10)

    async def set_to(policy: str, memory: str) -> None:
        counters = connected(port)
        await counters._client.config_set("maxmemory-policy", policy)
        await counters._client.config_set("maxmemory", memory)
        await counters.close()

    async def count(subject: str) -> object:
        counters = connected(port)
        try:
            await counters.declare(["a"])
            return await settled(counters, subject, [charge])
        finally:
            await counters.close()

    def told() -> str:
        return next(
            each.text for each in doctor.examine(home.settings, {}) if each.check == "shared"
        )

    for policy, memory in (("volatile-lru", "0"), ("noeviction", "50mb")):
        asyncio.run(set_to(policy, memory))
        assert isinstance(asyncio.run(count(policy)), Spent) and told() == "it answers"
    for policy in ("volatile-lru", "allkeys-random"):
        asyncio.run(set_to(policy, "50mb"))
        with pytest.raises(BudgetsUnavailable, match="noeviction"):
            asyncio.run(count("alice"))
        assert "noeviction" in told()


@contextmanager
def servers(folder, port, count=2):
    """Servers of one keyring, each with an access log of its own."""
    (folder / "password").write_text("budget-password\n")
    with ExitStack() as stack:
        background = Background()
        stack.callback(background.close)
        store = Store(background)
        stack.callback(store.close)
        store.pages[PATH] = Page(sales.as_csv(sales.rows(10)))
        settings = (
            f'budgets: {{valkey: "valkey://127.0.0.1:{port}/0", password: "file:../password"}}\n'
        )
        home = Home(
            folder / "home", reports=sales.REPORTS, rules=sales.RULES, store=store.url, settings=settings
        )  # fmt: skip
        home.write("limits.yaml", LIMITS)
        proxies = []
        text = home.settings.read_text()
        for number in range(count):
            home.settings.write_text(text.replace("access.db", f"access-{number}.db"))
            proxies.append(stack.enter_context(running(home, background)))
        yield proxies


def ask(proxy, who="alice"):
    return proxy.get(PATH, token=proxy.issuer.token(who, groups=("analysts",)))


def test_servers_share_a_budget_and_refuse_without_it(folder):
    """Two servers give five answers together; stopped, nothing that is limited is given; back, all goes on."""
    with ExitStack() as stack:
        valkey = ExitStack()
        port = valkey.enter_context(peer.running(folder))
        stack.callback(valkey.close)
        one, other = stack.enter_context(servers(folder, port))
        statuses: list[int] = []

        def some(proxy):
            statuses.extend(ask(proxy).status for _ in range(5))

        threads = [threading.Thread(target=some, args=(proxy,)) for proxy in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(statuses) == [200] * 5 + [429] * 5
        valkey.close()
        answer = ask(one, "bob")
        assert answer.status == 503 and int(answer.headers["retry-after"]) > 0
        problem = json.loads(answer.body)
        assert problem["type"] == "urn:counterfoil:problem:budgets-unavailable"
        event = next(e for e in _events(folder, 0) if e.access == problem["event"])
        assert (event.decision, event.reason) == ("deny", "budgets-unavailable")
        with peer.running(folder, port):
            assert ask(one, "bob").status == 200
            # What was in it is lost: each server begins at what its own log says.
            assert ask(one).status in (200, 429)


def _events(folder, number):
    from tests.harness.proxy import events

    return events(folder / "home" / f"access-{number}.db")
