"""`counterfoil log export`: at least once, in order, whatever is killed or down in between."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from proxy.access import decode, timestamp
from proxy.audit import Reader
from proxy.audit.export import Cursor, Export, GaveUp
from proxy.audit.names import Names
from proxy.audit.receivers import File, Message, NotTaken, Receiver, Syslog
from proxy.audit.store import place_of
from proxy.cli import main
from proxy.cli.export import export
from proxy.demo.material import prepare
from proxy.errors import CounterfoilError
from tests.audit.records import DATABASES, HOSTILE, event, leaves, opened, write
from tests.audit.test_ocsf import TABLE
from tests.harness import sales
from tests.harness.process import LAUNCH, ROOT
from tests.harness.proxy import stage
from tests.harness.receivers import TAKEN, HttpServer, SyslogServer
from tests.harness.store import Page

TOKEN = "s3cret-t0ken"
HEADER = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([!-~]{1,255}) counterfoil - ([!-~]{1,32}) - (.*)\Z",
    re.DOTALL,
)


def exported(path: Path, *words: object, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(
        main, ["log", "export", "--log", str(path), *map(str, words)], catch_exceptions=False
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of 40 accesses and the leaf that opens it; some with texts that would break a line."""
    path = tmp_path / "access.db"
    write(path, [
        event("complete", f"{number:02x}", 1.8e9 + number, subject="id-alice", tool=HOSTILE,
              path=HOSTILE, groups=(HOSTILE,), action="read", decision="permit", ended="whole")
        for number in range(40)
    ])  # fmt: skip
    return path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ca.crt`, and `server.crt` with its key for this machine."""
    return prepare(tmp_path_factory.mktemp("certificates"), now=datetime.now(UTC)).certificates


@pytest.fixture
def tls(certificates: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    return context


def stored(path: Path) -> list[bytes]:
    return [entry for _, entry in leaves(path)]


def uids(lines: list[bytes]) -> list[str]:
    return [json.loads(line)["metadata"]["uid"] for line in lines]


def expected(path: Path) -> list[str]:
    return [f"{one.access}-{one.part}" for one in map(decode, stored(path))]


def once(found: list[str]) -> list[str]:
    """As a receiver has them that drops what it has got already."""
    return list(dict.fromkeys(found))


def test_the_documentation_s_commands_exist() -> None:
    """Each command of docs/auditing.md that exports has options that there are."""
    page = (ROOT / "docs/auditing.md").read_text("utf-8")
    shown = re.findall(r"^counterfoil log export (.+?)(?: +#.*)?$", page, re.MULTILINE)
    assert len(shown) == 3
    known = {name for option in export.params for name in option.opts}
    for words in map(shlex.split, shown):
        assert {word for word in words if word.startswith("-")} <= known


class Crash(Exception):
    """The process ends here."""


class Flaky(Receiver):
    """Does what it is told to, one word a batch: takes all or a part of it or nothing, fails, lets it die."""

    name = "flaky"

    def __init__(self, told: Iterator[str]) -> None:
        self._told = told
        self.taken: list[bytes] = []

    def deliver(self, batch: list[Message]) -> None:
        word = next(self._told, "take")
        kept = {"fail": 0, "lose": 0, "part": len(batch) // 2}.get(word, len(batch))
        self.taken += [message.line for message in batch[:kept]]
        if word in ("fail", "part"):
            raise NotTaken(word)
        if word in ("lose", "crash"):
            raise Crash


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shared") / "access.db"
    batches = [[event(access=f"{log}{number:02x}") for number in range(9)] for log in "ab"]
    write(path, *batches)
    return path


@given(
    st.lists(st.sampled_from(["take", "fail", "part", "lose", "crash"]), max_size=12),
    st.integers(1, 7),
)
def test_whatever_fails_nothing_is_lost_and_the_order_is_kept(
    shared: Path, tmp_path_factory: pytest.TempPathFactory, told: list[str], most: int
) -> None:
    """Through refusals, partial deliveries and deaths before the cursor moves: all events, in the log's order."""
    file = tmp_path_factory.mktemp("cursor") / "cursor"
    receiver = Flaky(iter(told))
    for _ in range(len(told) + 1):
        with Reader(shared) as reader, contextlib.closing(Cursor(file)) as cursor:
            run = Export(
                reader, receiver, lambda leaf, _: leaf.entry, cursor=cursor, most=most, pause=0
            )
            with contextlib.suppress(Crash):
                assert run.run()
                break
    assert list(dict.fromkeys(receiver.taken)) == stored(shared)
    extra = len(receiver.taken) - len(stored(shared))
    assert extra <= most * sum(word in ("part", "crash") for word in told)


def test_a_second_run_delivers_what_is_new(path: Path, tmp_path: Path) -> None:
    """What was taken is not delivered again, and an export that is done does nothing."""
    out, cursor = tmp_path / "out", tmp_path / "cursor"
    for _ in range(2):
        assert exported(path, "--to", out, "--cursor", cursor).exit_code == 0
        assert uids(out.read_bytes().splitlines()) == expected(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO leaf (place, entry) VALUES (?, ?)",
            (place_of(1, 41), stored(path)[-1].replace(b'"27"', b'"ff"')),
        )
        connection.commit()
    said = exported(path, "--to", out, "--cursor", cursor)
    assert "1 records to" in said.stderr and "counterfoil/1[41]" in said.stderr
    assert uids(out.read_bytes().splitlines()) == expected(path)
    assert out.stat().st_mode & 0o777 == 0o600


class Running:
    """`counterfoil log export` as a process of its own."""

    def __init__(self, path: Path, *words: object, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, "log", "export", "--log", str(path), *map(str, words)],
            cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ended(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A log of three batches."""
    path = tmp_path / "long.db"
    write(path, [event("complete", f"{number:04x}", 1.8e9 + number) for number in range(2100)])
    return path


def test_a_kill_before_the_answer_loses_nothing(long: Path, tmp_path: Path) -> None:
    """SIGKILL while an endpoint has a batch and has not answered: that batch comes again, no other does."""
    running: list[Running] = []

    def answer(number: int, _: bytes) -> int | None:
        if number == 2:
            running[0].process.kill()
            running[0].process.wait()
        return TAKEN

    with HttpServer(answer) as server:
        words = ("--to", f"http://127.0.0.1:{server.port}/in", "--cursor", tmp_path / "cursor")
        running.append(Running(long, *words))
        assert running[0].ended()[0] == -signal.SIGKILL
        first = len(server.lines)
        assert exported(long, *words).exit_code == 0
    found = uids(server.lines)
    assert once(found) == expected(long)
    again = len(server.bodies[1].splitlines())
    assert len(found) == len(expected(long)) + again
    assert found[first - again : first] == found[first : first + again]


def test_a_kill_within_a_stream_loses_nothing(
    long: Path, tmp_path: Path, tls: ssl.SSLContext, certificates: Path
) -> None:
    """SIGKILL while a syslog receiver reads: what it has got, and what comes after, are all events."""
    with SyslogServer(tls=tls) as server:
        words = (
            "--to", f"syslog+tls://localhost:{server.port}", "--ca", certificates / "ca.crt",
            "--cursor", tmp_path / "cursor",
        )  # fmt: skip
        running = Running(long, *words)
        server.until(700)
        running.process.kill()
        running.ended()
        assert exported(long, *words).exit_code == 0
        server.until(len(expected(long)))
    assert server.is_wrong == ""
    assert once(uids([HEADER.match(each)[5] for each in server.messages])) == expected(long)


def test_a_line_that_was_cut_off_is_taken_away(path: Path, tmp_path: Path) -> None:
    """What a death within a write leaves in a file is no record, and does not spoil the next one."""
    out, cursor = tmp_path / "out", tmp_path / "cursor"
    out.write_bytes(b'{"metadata":{"uid":"before"}}\n{"metadata":{"ui' + b"x" * 200_000)
    assert exported(path, "--to", out, "--cursor", cursor).exit_code == 0
    assert uids(out.read_bytes().splitlines()) == ["before", *expected(path)]


def test_a_file_of_something_else_is_left_alone(path: Path, tmp_path: Path) -> None:
    """Neither the log itself nor a folder or a pipe is written to."""
    before = path.read_bytes()
    os.mkfifo(tmp_path / "pipe")
    for target in (path, tmp_path / "pipe"):
        said = exported(path, "--to", target)
        assert said.exit_code == 20 and "is " in said.stderr
    assert path.read_bytes() == before
    said = exported(path, "--to", tmp_path, "--patience", "0")
    assert said.exit_code == 10 and "directory" in said.stderr


def test_a_file_may_be_renamed_between_batches(long: Path, tmp_path: Path) -> None:
    """Rotation by renaming: the old file has what was taken before, a new one the rest."""
    out = tmp_path / "out"

    class Rotated(File):
        def deliver(self, batch: list[Message]) -> None:
            super().deliver(batch)
            out.rename(tmp_path / f"out.{len(list(tmp_path.glob('out.*')))}")

    with Reader(long) as reader:
        assert Export(reader, Rotated(out), lambda leaf, _: leaf.entry, most=1000).run()
    files = sorted(tmp_path.glob("out.*"))
    assert len(files) == 3
    assert b"".join(each.read_bytes() for each in files).splitlines() == stored(long)


def test_a_receiver_that_is_down_is_told_of_and_gone_on_with(path: Path, tmp_path: Path) -> None:
    """Nobody listens: status 10, the reason, and how far it came; later all is delivered."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ("--to", f"syslog+tcp://127.0.0.1:{port}", "--cursor", tmp_path / "cursor")
    said = exported(path, *words, "--patience", "0.3")
    assert said.exit_code == 10
    assert f"127.0.0.1:{port} took no records for 0.3 seconds: Connection refused" in said.stderr
    assert f"0 records to 127.0.0.1:{port}\n" in said.stderr
    with SyslogServer(port=port) as server:
        assert exported(path, *words).exit_code == 0
        server.until(41)
    assert uids([HEADER.match(each)[5] for each in server.messages]) == expected(path)


def test_a_receiver_that_comes_back_is_waited_for(path: Path) -> None:
    """A receiver that closes its connections and opens again within the patience gets everything."""
    first = SyslogServer()
    receiver = Syslog("127.0.0.1", first.port, tls=None)
    with Reader(path) as reader, contextlib.closing(receiver):
        messages = [Message(leaf.entry, decode(leaf.entry)) for leaf in reader.since(0)]
        receiver.deliver(messages[:10])
        first.until(10)
        first.close()
        with pytest.raises(NotTaken):
            receiver.deliver(messages[10:])
        with SyslogServer(port=first.port) as second:
            receiver.deliver(messages[10:])
            second.until(31)
    found = [
        HEADER.match(each)[5].removeprefix(b"\xef\xbb\xbf")
        for each in first.messages + second.messages
    ]
    assert found == stored(path)


def test_a_receiver_that_has_closed_has_taken_nothing(path: Path) -> None:
    """What only its kernel took, of one that will not say another word, is not taken for delivered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def closed() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 20):
                    pass

        thread = threading.Thread(target=closed)
        thread.start()
        receiver = Syslog("127.0.0.1", listener.getsockname()[1], tls=None)
        one = decode(stored(path)[0])
        with pytest.raises(
            NotTaken, match="closed"
        ):  # more than buffers hold: it has closed by then
            receiver.deliver([Message(b"x" * (1 << 16), one)] * 512)
        receiver.close()
        thread.join(30)


def test_what_is_not_acknowledged_is_not_taken(path: Path) -> None:
    """A receiver that does not read, so that what was sent waits in this machine's buffers, has not got it."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least that there is
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        receiver = Syslog("127.0.0.1", listener.getsockname()[1], tls=None, timeout=0.2)
        message = Message(b"x" * 8000, decode(stored(path)[0]))
        with contextlib.closing(receiver), pytest.raises(NotTaken, match="did not acknowledge"):
            receiver.deliver([message])


def test_an_endpoint_that_is_busy_is_asked_again(path: Path) -> None:
    """429, 503 and a connection that breaks are passed over; each record is taken once, in order."""
    said = iter([429, 503, None, TAKEN])
    with HttpServer(lambda *_: next(said)) as server:
        done = exported(path, "--to", f"http://127.0.0.1:{server.port}/", "--patience", "30")
    assert done.exit_code == 0, done.stderr
    assert uids(server.lines) == expected(path)


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404])
def test_a_refusal_is_not_asked_again(path: Path, status: int) -> None:
    """What another attempt cannot change ends the export at once, with status 20 and the reason."""
    with HttpServer(lambda *_: status) as server:
        said = exported(path, "--to", f"http://127.0.0.1:{server.port}/in?key=abc")
    assert said.exit_code == 20
    assert f"/in refuses the records: it answered {status}" in said.stderr
    assert "abc" not in said.stderr
    assert len(server.requests) == 1


def test_a_batch_that_is_too_large_is_halved(path: Path) -> None:
    """413: the records come in smaller bodies, in order, each once."""
    with HttpServer(lambda _, body: TAKEN if body.count(b"\n") <= 6 else 413) as server:
        assert exported(path, "--to", f"http://127.0.0.1:{server.port}/").exit_code == 0
    assert uids(server.lines) == expected(path)


def test_a_token_is_sent_and_never_said(path: Path, tmp_path: Path) -> None:
    """The bearer token of the environment or a file is in the request, and in nothing that is printed."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    for source in ("env:SIEM", f"file:{tmp_path / 'token'}"):
        with HttpServer(lambda *_: 403) as server:
            said = exported(
                path,
                "--to",
                f"http://127.0.0.1:{server.port}/in?a=b",
                "--token",
                source,
                SIEM=TOKEN,
            )
        assert server.requests[0]["authorization"] == f"Bearer {TOKEN}"
        assert server.requests[0]["content-type"] == "application/x-ndjson"
        assert server.targets == ["/in?a=b"]
        assert TOKEN not in said.output + said.stderr
    for source in (TOKEN, "env:NONE", f"file:{tmp_path / 'none'}", "env:"):
        said = exported(path, "--to", "https://127.0.0.1:1/", "--token", source)
        assert said.exit_code == 1 and TOKEN not in said.stderr


def test_https_trusts_the_named_authority_alone(
    path: Path, tls: ssl.SSLContext, certificates: Path
) -> None:
    """With --ca the records arrive; without, the certificate does not verify and nothing is sent."""
    with HttpServer(tls=tls) as server:
        to = ("--to", f"https://localhost:{server.port}/")
        said = exported(path, *to, "--patience", "0")
        assert said.exit_code == 10 and "certificate does not verify" in said.stderr
        assert server.requests == []
        assert exported(path, *to, "--ca", certificates / "ca.crt").exit_code == 0
    assert uids(server.lines) == expected(path)


@pytest.mark.parametrize("form", ["ocsf", "json"])
def test_hostile_texts_stay_one_record_each(path: Path, tmp_path: Path, form: str) -> None:
    """Line ends, quotes, bidirectional and invisible characters: as many records as events, in every receiver."""
    out = tmp_path / "out"
    printed = exported(path, "--as", form)
    assert exported(path, "--as", form, "--to", out).exit_code == 0
    with HttpServer() as http, SyslogServer() as syslog:
        assert exported(path, "--as", form, "--to", f"http://127.0.0.1:{http.port}/").exit_code == 0
        assert (
            exported(path, "--as", form, "--to", f"syslog+tcp://127.0.0.1:{syslog.port}").exit_code
            == 0
        )
        syslog.until(41)
    heads = [HEADER.match(message) for message in syslog.messages]
    texts = [head[5] for head in heads]
    assert all((text[:3] == b"\xef\xbb\xbf") != text.isascii() for text in texts)
    texts = [text.removeprefix(b"\xef\xbb\xbf") for text in texts]
    assert syslog.is_wrong == ""
    assert printed.stdout_bytes.split(b"\n") == [*texts, b""]
    assert out.read_bytes().split(b"\n") == [*texts, b""]
    assert b"".join(http.bodies).split(b"\n") == [*texts, b""]
    if form == "json":
        assert texts == stored(path)
    else:
        assert uids(texts) == expected(path)
        assert {json.loads(text)["actor"]["app_name"] for text in texts[1:]} == {HOSTILE}
    assert {(head[1], head[4]) for head in heads[1:]} == {(b"110", b"complete")}
    assert [head[2].decode() for head in heads] == [decode(entry).at for entry in stored(path)]


def test_what_a_proxy_records_is_exported(tmp_path: Path) -> None:
    """Accesses of a real proxy, permitted, treated and refused: records of the schema, without a cell or a token."""
    rows = sales.as_csv(sales.rows(50)).replace(b"@", b"@canary")
    with stage(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES) as (store, proxy):
        store.pages["/sales/daily.csv"] = Page(rows)
        token = proxy.issuer.token("alice", groups=("analysts",))
        owner = proxy.issuer.token("sam", groups=("owners",), stores=["1"])
        for target, given in (
            ("/sales/daily.csv", token), ("/sales/daily.csv", owner), ("/sales/secret.csv", token),
            ("/sales/daily.csv?least=1001.01", token), ("/canary", token), ("/sales/daily.csv", None),
        ):  # fmt: skip
            proxy.get(target, token=given)
    said = exported(tmp_path / "home/access.db", "--names")
    records = [json.loads(line) for line in said.stdout.splitlines()]
    assert [fault for each in records for fault in TABLE.faults(each)] == []
    done = [each["action"] for each in records if each["class_uid"] == 6005]
    assert done == ["Modified", "Allowed", "Denied", "Denied", "Denied", "Denied"]
    assert {each["class_uid"] for each in records} == {6005, 6002, 3004}
    names = [each.get("actor", {}).get("user", {}).get("name", "") for each in records]
    assert {"user:alice", "user:sam"} <= set(names)
    for secret in ("@canary", "1001.01", token, owner):
        assert (
            secret not in said.stdout + exported(tmp_path / "home/access.db", "--as", "json").stdout
        )


def test_names_are_told_only_where_they_are_asked_for(path: Path) -> None:
    """Without --names a record holds the opaque id alone; with it, the directory's name, unless that is erased."""
    with contextlib.closing(Names(path.with_name("access-names.db"))) as names:
        names.learn([("id-alice", "user:alice")])
        assert "user:alice" not in exported(path).stdout
        last = json.loads(exported(path, "--names").stdout.splitlines()[-1])
        assert last["actor"]["user"] | {"groups": []} == {
            "uid": "id-alice",
            "name": "user:alice",
            "groups": [],
        }
        names.erase("user:alice")
    assert "user:alice" not in exported(path, "--names").stdout
    assert exported(path, "--names", "--as", "json").exit_code == 2


def test_since_is_where_a_new_cursor_begins(path: Path, tmp_path: Path) -> None:
    """From the first record made then or later; a cursor that there is says otherwise, and counts."""
    since = ("--since", timestamp(1.8e9 + 30))
    assert uids(exported(path, *since).stdout_bytes.splitlines()) == expected(path)[31:]
    assert exported(path, "--since", timestamp(1.9e9)).stdout == ""
    words = ("--to", tmp_path / "out", "--cursor", tmp_path / "cursor", *since)
    for _ in range(2):
        assert exported(path, *words).exit_code == 0
    assert uids((tmp_path / "out").read_bytes().splitlines()) == expected(path)[31:]


def test_a_cursor_of_another_log_is_refused(path: Path, tmp_path: Path) -> None:
    """A log that was replaced, or lost its newest events, is not gone on with; nothing is delivered."""
    out, cursor = tmp_path / "out", tmp_path / "cursor"
    assert exported(path, "--to", out, "--cursor", cursor).exit_code == 0
    before = out.read_bytes()
    other = tmp_path / "other" / "access.db"
    other.parent.mkdir()
    for count in (60, 10):
        write(other, [event(access=f"f{number:02x}") for number in range(count)])
        said = exported(other, "--to", out, "--cursor", cursor)
        assert said.exit_code == 1 and "replaced or cut off" in " ".join(said.stderr.split())
        shutil.rmtree(other.parent)
        other.parent.mkdir()
    far = 10**30
    for said in (
        b"{}",
        b"[" * 5000,
        b'{"index":0,"leaf":"","log":"\xff","number":1}',
        b'{"index":0,"leaf":"","log":"","number":%d}' % far,
        b'{"index":%d,"leaf":"","log":"counterfoil/1","number":1}' % far,
        b'{"index":0,"leaf":"","log":"","number":-%d}' % (1 << 63),
    ):
        cursor.write_bytes(said)
        assert "no cursor of an export" in exported(path, "--to", out, "--cursor", cursor).stderr
    assert out.read_bytes() == before


def test_one_process_holds_a_cursor(path: Path, tmp_path: Path) -> None:
    """A second export with the same cursor does nothing but say so."""
    with contextlib.closing(Cursor(tmp_path / "cursor")):
        said = exported(path, "--cursor", tmp_path / "cursor")
    assert said.exit_code == 1 and "another export holds the cursor" in said.stderr
    assert said.stdout == ""
    assert exported(path, "--cursor", tmp_path / "cursor").exit_code == 0


@pytest.mark.parametrize(
    "entry",
    [b"\xff", b"{}", b'{"access":"ff","step":"sung","at":"2026-11-23T22:58:40.123456Z"}',
     b'{"access":"ff","step":"alive","at":"2026-13-23T22:58:40.123456Z"}',
     b'{"access":"ff","step":"alive","at":"20261123T225840.123456Z"}',
     b'{"access":"ff",\n"step":"alive","at":"2026-11-23T22:58:40.123456Z"}'],
)  # fmt: skip
def test_an_entry_that_is_no_event_is_not_passed_over(
    path: Path, tmp_path: Path, entry: bytes
) -> None:
    """What came before it is delivered; then the export ends, and names it, each time."""
    before = expected(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO leaf (place, entry) VALUES (?, ?)", (place_of(1, 41), entry)
        )
        connection.commit()
    out = tmp_path / "out"
    for _ in range(2):
        said = exported(path, "--to", out, "--cursor", tmp_path / "cursor")
        assert said.exit_code == 1 and "counterfoil/1[41] is not an access event" in said.stderr
        assert uids(out.read_bytes().splitlines()) == before


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_an_export_follows_a_log_that_is_written(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    """With --follow each event arrives soon after it is durable, over a restart of the server too; SIGTERM ends it."""
    path = tmp_path / "access.db"
    if kind == "postgres":
        DATABASES[path] = request.getfixturevalue("postgres").new()
    with SyslogServer() as server:
        async with opened(path) as log:
            await log.append(event(access="0a"))
            running = Running(path, "--to", f"syslog+tcp://127.0.0.1:{server.port}", "--follow", "--cursor", tmp_path / "cursor")  # fmt: skip
            server.until(2)
            await log.append(event(access="0b"))
            server.until(3)
        async with opened(path) as log:
            await log.append(event(access="0c"))
            server.until(5)
        running.process.terminate()
        status, said = running.ended()
    assert (status, "5 records to" in said) == (0, True), said
    assert uids([HEADER.match(each)[5] for each in server.messages]) == expected(path)
    DATABASES.pop(path, None)


async def test_an_export_that_waits_keeps_nobody_waiting(tmp_path: Path) -> None:
    """While a receiver has a batch and does not answer, the log appends, and its write-ahead log can be emptied."""
    path = tmp_path / "access.db"
    asked, answered = threading.Event(), threading.Event()

    def answer(*_: object) -> int:
        asked.set()
        assert answered.wait(30)
        return TAKEN

    async with opened(path) as log:
        for number in range(20):
            await log.append(event(access=f"{number:02x}"))
        with HttpServer(answer) as server:
            running = Running(path, "--to", f"http://127.0.0.1:{server.port}/")
            assert asked.wait(30)
            await log.append(event(access="ff"))
            with contextlib.closing(sqlite3.connect(path, timeout=5)) as other:
                (busy, *_) = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            answered.set()
            assert (busy, running.ended()[0]) == (0, 0)


def test_an_export_that_is_stopped_says_so(path: Path) -> None:
    """Told to stop while a receiver is down, a run ends before its patience does, and was not whole."""
    stop = threading.Event()

    class Down(Receiver):
        name = "down"

        def deliver(self, batch: list[Message]) -> None:
            stop.set()
            raise NotTaken("down" if batch else "empty")

    with Reader(path) as reader:
        assert not Export(reader, Down(), lambda leaf, _: leaf.entry, stop=stop).run()
        early = Flaky(iter(()))
        assert not Export(reader, early, lambda leaf, _: leaf.entry, stop=stop).run(
            since=datetime.fromtimestamp(1.8e9, UTC)
        )
        assert early.taken == []
        stop.clear()
        with pytest.raises(GaveUp, match="down took no records for 0 seconds: down"):
            Export(reader, Down(), lambda leaf, _: leaf.entry, patience=0).run()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("http://siem.example.com/", "is not encrypted on its way"),
        ("syslog+tcp://10.0.0.1:601", "is not encrypted on its way"),
        ("https://user:pa55@siem.example.com/", "is no address"),
        ("https://siem.example.com:x/", "is no address"),
        ("https://siem.example.com/a b", "is no address"),
        ("syslog+tls://siem.example.com/path", "has no path"),
        ("syslog+tls://", "is no address"),
        ("ftp://siem.example.com", "is no receiver"),
    ],
)
def test_a_target_that_is_none_is_told(path: Path, target: str, said: str) -> None:
    """Nothing goes anywhere unencrypted but on this machine, and no message repeats a password."""
    done = exported(path, "--to", target)
    assert done.exit_code == 1 and said in done.stderr and "pa55" not in done.stderr
    assert isinstance(done.exception, SystemExit)


def test_a_cursor_is_no_place_for_records(path: Path, tmp_path: Path) -> None:
    """The file that remembers is not the one that is written to, by whatever name."""
    (tmp_path / "link").symlink_to(tmp_path / "cursor")
    said = exported(path, "--to", tmp_path / "link", "--cursor", tmp_path / "cursor")
    assert said.exit_code == 2 and not (tmp_path / "cursor").exists()


def test_moments_of_the_past_are_where_a_cursor_begins(path: Path) -> None:
    """`since` is compared with when records were made, not with when it is asked."""
    with Reader(path) as reader:
        receiver = Flaky(iter(()))
        begun = datetime.fromtimestamp(1.8e9, UTC) + timedelta(seconds=39)
        assert Export(reader, receiver, lambda leaf, _: leaf.entry).run(since=begun)
        assert receiver.taken == stored(path)[-1:]


def test_a_cursor_that_cannot_be_written_is_told(path: Path, tmp_path: Path) -> None:
    """An export that could not remember is an error, not an export without a memory."""
    with pytest.raises(CounterfoilError, match="cannot be used"):
        Cursor(tmp_path / "none" / "cursor")
    (tmp_path / "folder").mkdir()
    receiver = Flaky(iter(()))
    with Reader(path) as reader, contextlib.closing(Cursor(tmp_path / "folder/cursor")) as cursor:
        shutil.rmtree(tmp_path / "folder")
        with pytest.raises(CounterfoilError, match="cannot be written"):
            Export(reader, receiver, lambda leaf, _: leaf.entry, cursor=cursor, most=7).run()
    assert receiver.taken == stored(path)[:7]
