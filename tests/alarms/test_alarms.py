"""Alarms over real sockets: what is told, to a receiver that fails at first, once, signed, and without a value."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import http.client
import json
import re
import socket
import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from proxy.access import AccessEvent, new_access_id, timestamp
from proxy.alarms import watching
from proxy.alarms.kinds import Kind
from proxy.alarms.raised import Alarms
from proxy.audit.log import AccessLog
from proxy.budgets.embedded import Embedded
from proxy.cli import main
from proxy.keys import file as keyring_file
from proxy.keys.kek import kek_of
from tests.gateway.reloading import soon
from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.process import Served
from tests.harness.proxy import Home, running, stage
from tests.harness.receivers import HttpServer
from tests.harness.store import Page, Store

CSV = "/sales/daily.csv"
SECRET = "the-secret-that-alarms-are-signed-with"


@contextmanager
def world(tmp_path, receiver, *, more: str = "", settings: str = ""):
    (tmp_path / "secret").write_text(SECRET + "\n")
    (tmp_path / "token").write_text("alarm-token\n")
    settings += (
        f'alarms: {{webhook: "http://127.0.0.1:{receiver.port}/hook", secret: "file:secret",'
        f' token: "file:token", refusals: 5{more}}}\n'
    )
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES, settings=settings) as running:
        store, proxy = running
        store.pages[CSV] = Page(sales.as_csv(sales.rows(10)))
        yield store, proxy


def told(receiver, kind):
    return [body for each in receiver.bodies if (body := json.loads(each))["kind"] == kind]


def ask(proxy, target=CSV, *, who="alice"):
    return proxy.get(target, token=proxy.issuer.token(who, groups=("analysts",)))


def test_an_alarm_comes_through_a_receiver_that_fails_at_first(tmp_path):
    """Hung up on, then refused, then taken: once, signed, with the command to paste, and no name or value."""
    with (
        HttpServer(lambda number, _: (None, 503, 302, 204)[min(number - 1, 3)]) as receiver,
        world(tmp_path, receiver) as (_, proxy),
    ):
        assert ask(proxy).status == 200
        assert soon(lambda: told(receiver, "first-access"))
        assert len(receiver.requests) >= 4
        (alarm,) = told(receiver, "first-access")
        event = proxy.events()[-1]
        assert (alarm["subject"], alarm["report"]) == (event.subject, "sales/daily")
        assert alarm["do"] and alarm["severity"] == "low" and "name" not in alarm
        assert alarm["lockdown"] == [
            f"counterfoil lockdown sales/daily --reason 'alarm first-access {alarm['id']}'"
        ]
        assert b"alice" not in b"".join(receiver.bodies) and b"canary" not in b"".join(
            receiver.bodies
        )
        sent, body = receiver.requests[-1], receiver.bodies[-1]
        signed = sent["counterfoil-timestamp"].encode() + b"." + body
        mac = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        assert sent["counterfoil-signature"] == f"sha256={mac}"
        assert sent["authorization"] == "Bearer alarm-token"


def test_the_same_is_told_once(tmp_path, caplog):
    """A subject's second access is no first one; another subject's is; names are told where that is set."""
    with HttpServer() as receiver, world(tmp_path, receiver, more=", names: true") as (_, proxy):
        for who in ("alice", "alice", "bob", "alice"):
            assert ask(proxy, who=who).status == 200
        assert soon(lambda: len(told(receiver, "first-access")) == 2)
        assert [each["name"] for each in told(receiver, "first-access")] == [
            "user:alice",
            "user:bob",
        ]
        lines = [r.getMessage() for r in caplog.records if "alarm first-access" in r.getMessage()]
        assert len(lines) == 2 and "counterfoil lockdown sales/daily" in lines[0]


def test_a_budget_at_eighty_percent(tmp_path):
    """Told when it gets there, not before, and once."""
    with HttpServer() as receiver, world(tmp_path, receiver) as (_, proxy):
        proxy.home.write(
            "limits.yaml",
            "limits: [{who: anyone, reports: sales/*, what: rows, most: 50, per: week}]\n",
        )
        assert proxy.reload()
        for _ in range(3):
            assert ask(proxy).status == 200
        assert soon(lambda: told(receiver, "first-access"))
        assert not told(receiver, "budget-nearly-spent")
        assert [ask(proxy).status for _ in range(3)] == [200, 200, 429]
        assert soon(lambda: told(receiver, "budget-nearly-spent"))
        (alarm,) = told(receiver, "budget-nearly-spent")
        assert alarm["facts"] == {
            "spent": 40, "most": 50, "what": "rows", "per": "week", "line": "limits.yaml:1",
        }  # fmt: skip


@pytest.mark.parametrize("before", ["", "100"])
@pytest.mark.parametrize(("most", "statuses", "spent"), [(55, [200, 429], 50), (40, [429], 40)])
def test_a_budget_of_which_most_is_spent_when_its_limit_is_new(
    tmp_path, before, most, statuses, spent
):
    """Whether the limit was another one or none: told once, also where there is no room for any more."""
    limits = "limits: [{{who: anyone, reports: sales/*, what: rows, most: {}, per: week}}]\n"
    with HttpServer() as receiver, world(tmp_path, receiver) as (_, proxy):
        if before:
            proxy.home.write("limits.yaml", limits.format(before))
            assert proxy.reload()
        for _ in range(4):
            assert ask(proxy).status == 200
        proxy.home.write("limits.yaml", limits.format(most))
        assert proxy.reload()
        assert [ask(proxy).status for _ in statuses] == statuses
        assert soon(lambda: told(receiver, "budget-nearly-spent"))
        assert ask(proxy).status == 429
        assert ask(proxy, who="bob").status == 200
        assert soon(lambda: len(told(receiver, "first-access")) == 2)
        (alarm,) = told(receiver, "budget-nearly-spent")
        assert (alarm["facts"]["spent"], alarm["facts"]["most"]) == (spent, most)


def test_an_alarm_that_a_receiver_refuses_keeps_no_other(tmp_path):
    """Those that come after one that it calls too large, or no form of its own, reach it."""

    def answer(_: int, body: bytes) -> int:
        return 422 if b"first-access" in body else 204

    with HttpServer(answer) as receiver, world(tmp_path, receiver) as (_, proxy):
        assert ask(proxy).status == 200
        assert soon(lambda: receiver.requests)
        for _ in range(5):
            assert ask(proxy, "/sales/secret.csv").status == 404
        assert soon(lambda: told(receiver, "many-refusals"))
        assert proxy.app.alarms.raised["first-access"] == 1


def test_many_refusals_of_one_subject(tmp_path):
    """As many as set, and it says how to stop all access."""
    with HttpServer() as receiver, world(tmp_path, receiver) as (_, proxy):
        for _ in range(4):
            assert ask(proxy, "/sales/secret.csv").status == 404
        assert ask(proxy).status == 200
        assert soon(lambda: told(receiver, "first-access"))
        assert not told(receiver, "many-refusals")
        assert ask(proxy, "/sales/secret.csv").status == 404
        assert soon(lambda: told(receiver, "many-refusals"))
        (alarm,) = told(receiver, "many-refusals")
        assert alarm["facts"]["refused"] == 5
        assert [each.split(" --")[0] for each in alarm["lockdown"]] == [
            "counterfoil lockdown 'sales/*'"
        ]


def test_many_refusals_without_a_valid_token(tmp_path):
    """Few enough that each has its own record; told with their address, and by what the log can be asked."""
    with HttpServer() as receiver, world(tmp_path, receiver) as (_, proxy):
        for _ in range(4):
            assert proxy.get(CSV, token="nonsense").status == 401
        assert ask(proxy).status == 200
        assert soon(lambda: told(receiver, "first-access"))
        assert not told(receiver, "many-refusals")
        assert proxy.get(CSV, token="nonsense").status == 401
        assert soon(lambda: told(receiver, "many-refusals"))
        (alarm,) = told(receiver, "many-refusals")
        assert alarm["facts"] == {"refused": 5, "seconds": 300, "address": "127.0.0.1"}
        assert "subject" not in alarm and "--subject" not in alarm["do"]
        assert "lockdown" not in alarm and "`counterfoil lockdown` does not help" in alarm["do"]
        (command,) = re.findall("`counterfoil (log query .*?)`", alarm["do"])
        home = proxy.home
        arguments = [*command.split(), "--log", str(home.folder / "access.db")]
        asked = CliRunner().invoke(main, arguments)
        assert asked.exit_code == 0, asked.output
        refused = [json.loads(line) for line in asked.stdout.splitlines()]
        assert [(each["address"], each["cause"]) for each in refused] == [
            ("127.0.0.1", "token-malformed")
        ] * 5


def test_bursts_of_refusals_are_told_of_each_address(tmp_path):
    """Far more than have records of their own, from two addresses: each is told of, and no third one."""
    with HttpServer() as receiver, world(tmp_path, receiver) as (_, proxy):
        recorder = proxy.app.gateway.recorder
        recorder._bursts.capacity, recorder._bursts.per_second = 1.0, 0.0
        for address in ("127.0.0.11", "127.0.0.12"):
            for _ in range(6):
                assert asked_from(address, proxy) == 401
        proxy._background.run(recorder.close_bursts())
        assert soon(lambda: len(told(receiver, "many-refusals")) == 2)
        assert [each["facts"] for each in told(receiver, "many-refusals")] == [
            {"refused": 6, "seconds": 300, "address": "127.0.0.11"},
            {"refused": 6, "seconds": 300, "address": "127.0.0.12"},
        ]


@contextlib.contextmanager
def told_of(folder, *, rows, settings="", more=""):
    """A receiver of alarms, and a proxy's files that name it, before that is started."""
    with (
        HttpServer() as receiver,
        contextlib.closing(Background()) as background,
        contextlib.closing(Store(background)) as store,
    ):
        store.pages[CSV] = Page(sales.as_csv(sales.rows(rows)))
        alarms = f'alarms: {{webhook: "http://127.0.0.1:{receiver.port}/"{more}}}\n'
        home = Home(
            folder / "home",
            reports=sales.REPORTS,
            rules=sales.RULES,
            store=store.url,
            settings=settings + alarms,
        )
        yield receiver, background, home


def test_refusals_that_several_workers_share(tmp_path):
    """As many as are set, all workers together, are told, though none of them refused as many."""
    with told_of(tmp_path, rows=10, settings="workers: 4\n", more=", refusals: 5") as (
        receiver,
        _,
        home,
    ):
        with Served(home) as proxy, proxy.explained():
            token = home.issuer.token("eve", groups=("analysts",))
            for _ in range(5):
                assert wire.get(proxy.url, "/sales/secret.csv", token=token).status == 404
            assert soon(lambda: told(receiver, "many-refusals"))
        assert len(told(receiver, "many-refusals")) == 1


def asked_from(address: str, proxy) -> int:
    """The status of what is asked from another address of this machine, without a token."""
    parts = urlsplit(proxy.url)
    line = http.client.HTTPConnection(
        parts.hostname or "", parts.port, timeout=30, source_address=(address, 0)
    )
    with contextlib.closing(line):
        line.request("GET", CSV)
        return line.getresponse().status


def test_a_policy_that_is_refused_and_a_store_that_drifts(tmp_path):
    with HttpServer() as receiver, world(tmp_path, receiver) as (store, proxy):
        store.pages[CSV] = Page(sales.as_csv([(*row, "x") for row in sales.rows(3)], (*sales.FIELDS, "salary")))  # fmt: skip
        assert ask(proxy).status == 200
        proxy.home.write("policy.csv", "nonsense\n")
        assert not proxy.reload()
        assert soon(lambda: told(receiver, "policy-refused") and told(receiver, "drift"))
        assert told(receiver, "policy-refused")[0]["facts"] == {
            "cause": "faulty",
            "server": socket.gethostname(),
        }
        assert told(receiver, "drift")[0]["facts"] == {"what": "undeclared-field", "fields": 1}
        assert b"salary" not in b"".join(receiver.bodies)


def test_a_receiver_that_is_gone_delays_nobody(tmp_path):
    """Alarms wait, no request does, the metrics say so, and the proxy stops."""
    with HttpServer(lambda *_: None) as receiver:
        with world(tmp_path, receiver) as (_, proxy):
            assert [ask(proxy, who=f"user{n}").status for n in range(20)] == [200] * 20
            assert soon(lambda: b"counterfoil_alarms_waiting 20.0" in exposed(proxy))
        assert not receiver.bodies


def exposed(proxy) -> bytes:
    return proxy._background.run(proxy.app.exposed())


@pytest.mark.parametrize(
    ("alarms", "fault"),
    [
        ('{webhook: "http://alarms.example.com/"}', "is not encrypted on its way"),
        ('{webhook: "nonsense"}', "is no address"),
        ('{token: "env:X"}', "`token` is for a `webhook`"),
        ('{webhook: "https://a.example.com/", secret: "plain"}', "`secret` names no source"),
    ],
)
def test_settings_that_cannot_be_meant_are_told_with_their_place(tmp_path, alarms, fault):
    from proxy import config
    from proxy.errors import Faulty

    file = tmp_path / "counterfoil.yaml"
    file.write_text(
        'policies: p\nlog: l\nkeyring: {file: k, key_encryption_key: "env:K"}\n'
        f"alarms: {alarms}\n"
    )
    with pytest.raises(Faulty) as caught:
        config.load(file, {})
    (found,) = caught.value.faults
    assert fault in found.message and found.line == 4


def test_each_server_tells_of_its_own_state():
    """Of two that share what was told, each tells that its policy is not taken, once, and which server it is."""
    bodies: list[bytes] = []

    async def tell() -> None:
        counters = Embedded(None)
        everyone = SimpleNamespace(put=bodies.append)
        alarms = [Alarms(counters.claim, told=everyone, names=False) for _ in "ab"]
        running = [asyncio.create_task(each.run()) for each in alarms]
        for each, server in zip(alarms, "ab", strict=True):
            looking = watching.Watching(
                each,
                state=lambda: {Kind.POLICY: {"cause": "faulty"}},
                log=lambda: Path("nowhere"),
                looks=lambda: False,
                everything=lambda: ("sales/*",),
                opaque=lambda name: name,
                server=server,
            )
            for _ in range(2):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(looking.run(), 0.01)
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await counters.close()

    asyncio.run(tell())
    assert [json.loads(each)["facts"]["server"] for each in bodies] == ["a", "b"]


def test_a_log_that_cannot_be_written(tmp_path):
    """Told though nothing can be put on record, once, with the command that stops all access."""
    with HttpServer() as receiver, world(tmp_path, receiver) as (_, proxy):
        assert ask(proxy).status == 200
        log = proxy.home.folder / "access.db"
        log.rename(proxy.home.folder / "stolen.db")
        assert [ask(proxy).status for _ in range(3)] == [503] * 3
        assert soon(lambda: told(receiver, "log-lost"))
        (alarm,) = told(receiver, "log-lost")
        assert (alarm["severity"], alarm.get("subject")) == ("high", None)
        assert alarm["facts"] == {"server": socket.gethostname()}
        assert [each.split(" --")[0] for each in alarm["lockdown"]] == [
            "counterfoil lockdown 'sales/*'"
        ]
        assert b"stolen" not in b"".join(receiver.bodies)


def test_evidence_that_is_not_kept(tmp_path):
    """A place for checkpoints that takes none, counted and not named; accesses go on."""
    with HttpServer() as receiver, HttpServer(lambda *_: 500) as place:
        settings = f'retain: [{{url: "http://127.0.0.1:{place.port}/kept", every_seconds: 1}}]\n'
        with world(tmp_path, receiver, settings=settings) as (_, proxy):
            assert ask(proxy).status == 200
            assert soon(lambda: told(receiver, "evidence-failing"))
            (alarm,) = told(receiver, "evidence-failing")
            assert alarm["facts"] == {
                "places that take no checkpoints": 1,
                "server": socket.gethostname(),
            }
            assert f":{place.port}/".encode() not in b"".join(receiver.bodies)
            assert ask(proxy).status == 200


def test_a_log_that_somebody_altered(tmp_path):
    """The server sees it by itself, says where it is, and no more; accesses go on."""
    with HttpServer() as receiver, world(tmp_path, receiver, settings="verify_seconds: 1\n") as (_, proxy):  # fmt: skip
        assert ask(proxy).status == 200
        assert soon(lambda: verified(proxy) > 0)
        assert not told(receiver, "verifier-failed")
        index = proxy.app.log.size - 1
        with contextlib.closing(sqlite3.connect(proxy.app.log.path)) as database:
            database.execute("DROP TRIGGER leaf_never_changes")
            database.execute(
                "UPDATE leaf SET entry = CAST(replace(entry, 'daily', 'd41ly') AS BLOB)"
            )
            database.commit()
        assert soon(lambda: told(receiver, "verifier-failed"))
        (alarm,) = told(receiver, "verifier-failed")
        facts = alarm["facts"]
        assert (facts["grade"], facts["log"]) == ("invalid", proxy.app.log.name)
        assert facts["faults"] >= 1 and 0 <= facts["entry"] <= index
        assert alarm["severity"] == "high" and "counterfoil log verify" in alarm["do"]
        assert b"counterfoil_log_verifier_failed 1.0" in exposed(proxy)
        assert ask(proxy).status == 200


def verified(proxy) -> float:
    """When the server saw its log to be whole."""
    (line,) = (
        line
        for line in exposed(proxy).splitlines()
        if line.startswith(b"counterfoil_log_verified_timestamp_seconds ")
    )
    return float(line.split()[1])


def test_evidence_that_is_not_published(tmp_path):
    """Tiles that cannot be written, for there is no folder for them any more."""
    with HttpServer() as receiver, world(tmp_path, receiver) as (_, proxy):
        tiles = proxy.app.log.files.tiles
        assert soon(tiles.is_dir)
        tiles.rename(tiles.with_name("away"))
        tiles.touch()
        assert ask(proxy).status == 200
        assert soon(lambda: told(receiver, "evidence-failing"))
        assert told(receiver, "evidence-failing")[0]["facts"] == {
            "places that take no checkpoints": 0,
            "server": socket.gethostname(),
        }
        tiles.unlink()
        assert ask(proxy).status == 200


@pytest.fixture
def looks_often(monkeypatch):
    monkeypatch.setattr(watching, "VOLUME_SECONDS", 0.05)


def habit(home, who, *, days, rows):
    """Have the access log tell of accesses on some days before today."""
    kek = kek_of(f"file:{home.folder / 'kek'}", {})
    keyring = keyring_file.read(home.folder / "keyring.json", kek)

    async def write():
        log = await AccessLog.open(home.folder / "access.db", keyring=keyring)
        for day in days:
            event = AccessEvent(
                access=new_access_id(),
                step="complete",
                at=timestamp(time.time() - day * 86_400),
                subject=keyring.opaque(who),
                report="sales/daily",
                decision="permit",
                action="read",
                rows=rows,
                ended="whole",
                status=200,
            )
            await log.append(event, principal=who)
        await log.close()

    asyncio.run(write())


def test_a_volume_that_is_unusual_for_its_subject(tmp_path, looks_often):
    """More than its own days before, by far; told with the numbers, the report and once a day.

    Another subject with the same rows today is used to them, and a third has no habit yet.
    """
    with told_of(tmp_path, rows=1_500) as (receiver, background, home):
        habit(home, "user:alice", days=range(1, 28, 3), rows=100)
        habit(home, "user:bob", days=range(1, 28, 3), rows=1_400)
        habit(home, "user:carol", days=range(1, 5), rows=1)
        with running(home, background) as proxy:
            for who in ("bob", "carol", "alice"):
                assert ask(proxy, who=who).status == 200
            assert soon(lambda: told(receiver, "unusual-volume"))
            (alarm,) = told(receiver, "unusual-volume")
            assert alarm["subject"] == proxy.app.keys.keyring.opaque("user:alice")
            assert alarm["facts"] == {"rows": 1_500, "usual": 1_000}
            assert alarm["report"] == "sales/daily" and alarm["severity"] == "high"
            assert ask(proxy).status == 200
        assert len(told(receiver, "unusual-volume")) == 1
        assert b"user:" not in b"".join(receiver.bodies)


def test_a_volume_is_held_against_what_was_given_under_former_keys(tmp_path, looks_often):
    """A subject keeps its history where a new key names it, and what it was given on the same day before."""
    with told_of(tmp_path, rows=800) as (receiver, background, home):
        habit(home, "user:alice", days=range(1, 28, 3), rows=100)
        habit(home, "user:alice", days=[0], rows=700)
        rotated = CliRunner().invoke(
            main, ["keys", "rotate", "--names", "--yes", "-c", str(home.settings)]
        )
        assert rotated.exit_code == 0, rotated.output
        with running(home, background) as proxy:
            assert ask(proxy).status == 200
            assert soon(lambda: told(receiver, "unusual-volume"))
            (alarm,) = told(receiver, "unusual-volume")
            assert alarm["subject"] == proxy.app.keys.keyring.opaque("user:alice")
            assert alarm["facts"] == {"rows": 1_500, "usual": 1_000}


def test_every_kind_of_alarm_is_told_in_some_test():
    """Each row of the table is one that a test of this file has seen at the receiver."""
    source = Path(__file__).read_text()
    assert {kind.slug for kind in Kind if f'told(receiver, "{kind.slug}")' not in source} == set()
