"""The access log in a database: what is known, and what is not, when the database or the way to it fails."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from hashlib import sha256

import pytest

from proxy.access import encode
from proxy.audit import AccessLog, Reader
from proxy.audit.postgres.database import Database
from proxy.audit.postgres.mirror import Contradiction, Mirror
from proxy.audit.store import Files, epoch_and_index
from proxy.errors import LogUnavailable
from proxy.evidence.layout import Attachment
from tests.audit.records import (
    DATABASES,
    KEYRING,
    event,
    events,
    leaves,
    locked_logs,
    logs,
    opened,
    until,
)
from tests.audit.test_log import whole
from tests.harness.background import Background
from tests.harness.postgres import PASSWORD, Wire, psql


@pytest.fixture
def path(file, postgres):
    DATABASES[file] = postgres.new()
    yield file
    del DATABASES[file]


@pytest.fixture
def wire(path, postgres):
    """A way to the database that can be cut."""
    background = Background()
    found = Wire(background, postgres.port)
    yield found
    found.close()
    background.close()


def over(path, wire, postgres) -> Database:
    return postgres.database(DATABASES[path].name, port=wire.port)


def differing(path) -> str:
    """What the database says otherwise than the copy, once that is up to date."""
    with contextlib.closing(Mirror(Files.at(path), DATABASES[path])) as mirror:
        mirror.catch_up()
        return mirror.differing(lambda _: None)


async def agree(path) -> None:
    """Database, copy and files say the same, and fit together."""
    assert await asyncio.to_thread(differing, path) == ""
    whole(path)


def once(path) -> list[str]:
    """The accesses on record, each of whose events is there once; places have no gap."""
    found = leaves(path)
    assert len({entry for _, entry in found}) == len(found)
    for epoch in {epoch_and_index(place)[0] for place, _ in found}:
        indices = [i for e, i in (epoch_and_index(place) for place, _ in found) if e == epoch]
        assert indices == list(range(len(indices)))
    return [one.access for one in events(path)]


@pytest.mark.parametrize("how", ["before", "after", "hung"])
async def test_a_connection_cut_in_mid_commit_leaves_the_event_once_and_its_receipt_true(
    path, wire, postgres, how
):
    """Whether the commit had happened is found out; where the request was lost it is sent again."""
    async with opened(path, database=over(path, wire, postgres)) as log:
        await log.append(event())
        wire.cut = how
        given = event(path="cut-me")
        receipt = await log.append(given)
        assert leaves(path)[receipt.index] == ((1 << 40) + receipt.index, encode(given))
        assert wire.cut == "" and log.healthy
        after = await log.append(event())
        assert (receipt.log, receipt.index, after.index) == ("counterfoil/1", 2, 3)
    assert logs(path) == [(1, True)]
    assert len(once(path)) == 4
    await agree(path)


async def test_an_event_that_was_committed_after_all_is_found_and_what_it_opened_is_unresolved(
    path, wire, postgres
):
    """The answer to the commit is lost, and nobody can ask before the deadline: 503, and an intent on record."""
    async with opened(path, database=over(path, wire, postgres), deadline=2.0) as log:
        await log.append(event())
        wire.cut, wire.refuses_then = "after", True
        with pytest.raises(LogUnavailable):
            await log.append(event("intent", "0f", path="cut-me"))
        assert not log.healthy
        wire.refusing = False
        await until(lambda: log.healthy)
        assert (await log.append(event())).index == 3
    assert logs(path) == [(1, False)]  # it is not for the writer to say that all have ended
    async with opened(path) as log:
        assert log.unresolved == 1
    assert [one.access for one in events(path) if one.step == "unresolved"] == ["0f"]
    assert logs(path)[0] == (1, True)
    assert len(once(path)) == 6
    await agree(path)


async def test_a_server_that_crashes_and_comes_back_loses_and_doubles_nothing(path, postgres):
    """Two replicas write while it is stopped at once, as by a crash, and started again."""
    receipts = []

    async def appender(log, stop):
        while not stop.is_set():
            given = event()
            try:
                receipts.append((given.access, await log.append(given)))
            except LogUnavailable:
                await asyncio.sleep(0.02)

    async with (
        opened(path) as one,
        opened(path.with_name("other.db"), database=DATABASES[path]) as two,
    ):
        stop = asyncio.Event()
        work = [asyncio.ensure_future(appender(log, stop)) for log in (one, two) for _ in range(8)]
        await until(lambda: len(receipts) > 100)
        await asyncio.to_thread(postgres.stop, "immediate")
        try:
            await until(lambda: not one.healthy and not two.healthy)
            with pytest.raises(LogUnavailable, match=r"cannot be reached|connection|stopping"):
                await one.append(event())
        finally:
            await asyncio.to_thread(postgres.start)
        before = len(receipts)
        await until(lambda: one.healthy and two.healthy and len(receipts) > before + 100)
        stop.set()
        await asyncio.gather(*work)
        assert (one.name, two.name) == ("counterfoil/1", "counterfoil/2")
    found = dict(leaves(path))
    once(path)
    for access, receipt in receipts:
        entry = found[(int(receipt.log[-1]) << 40) + receipt.index]
        assert access.encode() in entry
    await agree(path)


async def test_readiness_fails_without_an_append_when_the_server_is_stopped(path, postgres):
    async with opened(path) as log:
        await asyncio.to_thread(postgres.stop, "fast")
        try:
            await until(lambda: not log.healthy)
        finally:
            await asyncio.to_thread(postgres.start)
        await until(lambda: log.healthy)
        await log.append(event())


async def test_a_read_only_database_takes_nothing_and_is_written_again_afterwards(path):
    name = DATABASES[path].name
    ended = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        f" WHERE application_name = 'counterfoil' AND datname = '{name}'"
    )
    async with opened(path) as log:
        await log.append(event())
        psql(
            DATABASES[path], f"ALTER DATABASE {name} SET default_transaction_read_only = on", ended
        )
        with pytest.raises(LogUnavailable, match="read-only"):
            await log.append(event())
        assert not log.healthy
        size = len(leaves(path))
        psql(
            DATABASES[path],
            "SET default_transaction_read_only = off",
            f"ALTER DATABASE {name} RESET default_transaction_read_only",
            ended,
        )
        await until(lambda: log.healthy)
        assert (await log.append(event())).index == size
    once(path)


async def test_a_full_disk_fails_the_batch_whole_and_heals_by_itself(path, postgres):
    """The server's process may make no file longer than it is: nothing of the batch is there."""
    most = 20 << 20  # a file of its write-ahead log has 16 MiB, and is there already

    def limit(size):
        asked = (
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'counterfoil'"
            f" AND datname = '{DATABASES[path].name}'"
        )
        for pid in psql(DATABASES[path], asked).splitlines():
            postgres.limit(int(pid), size)

    def count():
        return int(psql(DATABASES[path], "SELECT count(*) FROM counterfoil.leaf"))

    async with opened(path) as log:
        await log.append(event())
        limit(most)
        refused = 0
        for _ in range(20):
            texts = [random.Random(n).randbytes(30_000).hex() for n in range(40)]
            size = count()
            done = await asyncio.gather(
                *(log.append(event(path=text)) for text in texts), return_exceptions=True
            )
            refused = sum(isinstance(each, LogUnavailable) for each in done)
            assert count() == size + 40 - refused
            if refused:
                break
        assert refused
        limit("unlimited")
        await until(lambda: log.healthy)
        assert (await log.append(event(path="x"))).index == size + 40 - refused
    once(path)


async def test_a_log_that_was_sealed_while_its_writer_was_cut_off_takes_nothing_more(
    path, wire, postgres
):
    """A start takes it for dead: it is fenced off in the very transaction of an append."""
    async with opened(path, database=over(path, wire, postgres), deadline=3.0) as first:
        await first.append(event("intent", "0a"))
        wire.refusing = True
        name = DATABASES[path].name
        psql(
            DATABASES[path],
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            f" WHERE application_name = 'counterfoil' AND datname = '{name}'",
        )
        await locked_logs(path, 0)
        async with opened(path.with_name("other.db"), database=DATABASES[path]) as second:
            assert second.unresolved == 1
            wire.refusing = False
            await until(lambda: first.lost)
            with pytest.raises(LogUnavailable, match="another process has sealed the log"):
                await first.append(event("outcome", "0a"))
            assert not first.healthy
            await second.append(event())
    assert [one.step for one in events(path)] == [
        "opened",
        "intent",
        "opened",
        "unresolved",
        "complete",
    ]


async def test_many_starts_at_once_make_one_schema_and_a_log_each(path):
    async with contextlib.AsyncExitStack() as stack:
        starts = [opened(path.with_name(f"{n}.db"), database=DATABASES[path]) for n in range(6)]
        found = await asyncio.gather(*(stack.enter_async_context(each) for each in starts))
        assert {log.name for log in found} == {f"counterfoil/{n}" for n in range(1, 7)}
        assert [sealed for _, sealed in logs(path)] == [False] * 6


async def test_a_newer_schema_is_refused(path):
    async with opened(path):
        pass
    psql(DATABASES[path], "UPDATE counterfoil.version SET version = 99")
    with pytest.raises(LogUnavailable, match="version 99; this program knows 2"):
        await AccessLog.open(path, keyring=KEYRING, database=DATABASES[path])


async def test_a_role_that_may_not_make_tables_is_told_what_to_grant(path, postgres):
    name = DATABASES[path].name
    psql(DATABASES[path], f"CREATE ROLE poor_{name} LOGIN PASSWORD '{PASSWORD}'")
    poor = Database(
        role=f"poor_{name}", host="127.0.0.1", port=postgres.port, name=name, password=PASSWORD
    )
    with pytest.raises(LogUnavailable, match=f"GRANT CREATE ON DATABASE {name} TO poor_{name}"):
        await AccessLog.open(path, keyring=KEYRING, database=poor)
    async with opened(path):
        pass
    # With the tables made by another, these are all that it needs.
    psql(
        DATABASES[path],
        f"GRANT USAGE ON SCHEMA counterfoil TO poor_{name}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA counterfoil TO poor_{name}",
        "GRANT INSERT ON counterfoil.leaf, counterfoil.registry, counterfoil.log, counterfoil.attachment,"
        f" counterfoil.name TO poor_{name}",
        f"GRANT UPDATE ON counterfoil.log, counterfoil.name TO poor_{name}",
    )
    async with opened(path, database=poor) as log:
        one = Attachment(sha256(b"x" * 9000).hexdigest(), b"x" * 9000)
        await log.append(event(subject="s1"), principal="user:alice", attachments=(one,))
        await until(lambda: not log.lag)
        assert log.projection_failure == ""
    assert logs(path) == [(1, True), (2, True)]


async def test_leaves_and_registry_cannot_be_changed_by_mistake(path):
    async with opened(path) as log:
        await log.append(event())
    for statement in (
        "UPDATE counterfoil.leaf SET entry = ''", "DELETE FROM counterfoil.leaf",
        "TRUNCATE counterfoil.leaf", "DELETE FROM counterfoil.registry",
        "UPDATE counterfoil.registry SET after = 0", "TRUNCATE counterfoil.registry",
        "DELETE FROM counterfoil.log", "DELETE FROM counterfoil.gone",
    ):  # fmt: skip
        said = "never changed|goes only where its hash is kept"
        with pytest.raises(AssertionError, match=said):
            psql(DATABASES[path], "SET session_replication_role = replica", statement)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE counterfoil.leaf SET entry = '{}' WHERE number = 2", "another event .* the 2. of"),
        ("DELETE FROM counterfoil.leaf WHERE number = 2", "another event .* the 2. of"),
    ],
)
async def test_what_was_altered_in_the_database_differs_from_its_copy(path, change, said):
    async with opened(path) as log:
        for _ in range(3):
            await log.append(event())
    await agree(path)
    psql(DATABASES[path], "ALTER TABLE counterfoil.leaf DISABLE TRIGGER USER", change)
    assert re.search(said, await asyncio.to_thread(differing, path))


async def test_a_database_that_lost_events_is_not_followed(path):
    """Such as one of which an older backup was put back."""
    async with opened(path) as log:
        await log.append(event())
    psql(
        DATABASES[path],
        "ALTER TABLE counterfoil.leaf DISABLE TRIGGER USER",
        "DELETE FROM counterfoil.leaf WHERE number = 2",
    )
    with pytest.raises(Contradiction, match="another history than its copy"):
        await AccessLog.open(path, keyring=KEYRING, database=DATABASES[path])


async def test_a_copy_is_not_written_as_a_log_nor_a_log_as_a_copy(path, tmp_path):
    async with opened(path):
        pass
    with pytest.raises(LogUnavailable, match="is a copy of an access log in a database"):
        await AccessLog.open(path, keyring=KEYRING)
    own = tmp_path / "own.db"
    async with opened(own):
        pass
    with pytest.raises(LogUnavailable, match="is an access log itself"):
        await AccessLog.open(own, keyring=KEYRING, database=DATABASES[path])


async def test_another_machine_has_it_all_and_proves_it(path, tmp_path):
    """A copy that is begun late has each event under the same number, and publishes what it copied."""
    async with opened(path) as one:
        for number in range(2500):
            last = asyncio.ensure_future(one.append(event(part=number)))
        await last
        elsewhere = tmp_path / "elsewhere" / "access.db"
        async with opened(elsewhere, database=DATABASES[path]) as two:
            await two.append(event())
            await one.append(event())
            await asyncio.to_thread(two.up_to_date)
            await until(lambda: not two.unpublished and not one.unpublished)
    assert leaves(elsewhere) == leaves(path)
    DATABASES[elsewhere] = DATABASES[path]
    try:
        await agree(path)
        await agree(elsewhere)
    finally:
        del DATABASES[elsewhere]


async def test_machines_tell_each_other_of_names_and_forget_them(path, tmp_path):
    elsewhere = tmp_path / "elsewhere" / "access.db"

    async def known(log, subject):
        """What a reader on that machine has for it."""
        with Reader(await asyncio.to_thread(log.up_to_date)) as reader:
            return reader.principal(subject)

    async with opened(path) as one, opened(elsewhere, database=DATABASES[path]) as two:
        await one.append(event(subject="s1"), principal="user:alice")
        await two.append(event(subject="s2"), principal="user:bob")
        for log in (one, two):
            await until_known(lambda log=log: known(log, "s1"), "user:alice")
            await until_known(lambda log=log: known(log, "s2"), "user:bob")
        await asyncio.to_thread(forget, path, "user:bob")
        assert [await known(log, "s2") for log in (one, two)] == ["", ""]
        assert await known(two, "s1") == "user:alice"
    assert psql(DATABASES[path], "SELECT subject, principal FROM counterfoil.name ORDER BY 1") == (
        "s1|user:alice\ns2|"
    )


def forget(path, principal):
    with contextlib.closing(Mirror(Files.at(path), DATABASES[path])) as mirror:
        mirror.forget(principal)


async def until_known(ask, name):
    for _ in range(400):
        if await ask() == name:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"never known: {name}")


async def test_a_server_that_makes_nothing_durable_is_refused(path, postgres):
    postgres.psql("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    try:
        await until(lambda: postgres.psql("SHOW fsync") == "off")
        with pytest.raises(LogUnavailable, match="makes nothing durable"):
            await AccessLog.open(path, keyring=KEYRING, database=DATABASES[path])
    finally:
        postgres.psql("ALTER SYSTEM RESET fsync", "SELECT pg_reload_conf()")
        await until(lambda: postgres.psql("SHOW fsync") == "on")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://role:canary@127.0.0.1/audit", "mysql://role@127.0.0.1/audit", "postgresql://",
        "postgresql://role@/audit", "postgresql://127.0.0.1/audit", "postgresql://role@127.0.0.1",
        "postgresql://role@127.0.0.1/audit?sslmode=disable", "postgresql://role@127.0.0.1:x/audit",
        "postgresql://role@/audit?host=/a&host=/b", "postgresql://role@/audit?host=canary",
        "postgresql://role@h/audit#canary", "postgresql://ro%00le@h/audit",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_and_not_repeated(url):
    with pytest.raises(ValueError, match=r"it |`host") as refused:
        Database.parse(url)
    assert "canary" not in str(refused.value)


async def test_no_message_holds_the_password(path, postgres):
    wrong = Database(
        role="counterfoil",
        host="127.0.0.1",
        port=postgres.port,
        name="postgres",
        password="canary!",
    )
    with pytest.raises(LogUnavailable, match="not to be opened by this role") as refused:
        await AccessLog.open(path, keyring=KEYRING, database=wrong)
    assert "canary!" not in str(refused.value) + repr(wrong) + str(wrong)
    assert refused.value.__cause__ is None


def test_over_a_wire_to_another_machine_a_connection_is_encrypted():
    assert Database.parse("postgresql://r@127.0.0.1/a").tls is False
    assert Database.parse("postgresql://r@/a?host=/run/postgresql").tls is False
    far = Database.parse("postgresql://r@db.example/a").tls
    assert far.check_hostname and far.verify_mode.name == "CERT_REQUIRED"
