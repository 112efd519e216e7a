"""The access log of a running proxy that is asked over real sockets: what it then holds, prints and proves."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from proxy.audit import registry
from proxy.audit.sources import Leaves
from proxy.audit.store import Files, place_of
from proxy.cli import main
from proxy.gateway.bursts import Bursts
from tests.audit.test_publish import forced
from tests.harness import sales, wire
from tests.harness.background import Background
from tests.harness.process import ROOT
from tests.harness.proxy import Home, Proxy, running, stage
from tests.harness.store import Page, Store

PATH = "/sales/daily.csv"
ODD = "a\r\nb\x1b[31m\u202e\u2028\x9b\x7f\"'\\\t é"
RAW = (
    b"\"'\\\t \xc3\xa9", b"a\x1b[31mb", b"\xe2\x80\xae\xe2\x80\xa8", b"\x9b31m\xff", b"a\rb", b"a\nb", b"a\r\n b",
    b"a\x00b", b"a\x7fb", b"a\r\nX-More: b",
)  # fmt: skip
"""Quotes, escapes, direction marks, C1, line ends, folds, NUL, DEL, and a field of its own."""
NAMES = ("o\"neil'\\", "a\r\nb", "a\x1b[31mb", "\u202ea", "a\u2028b", "a\x9bb", "[red]é</b>{a}%s")
TARGETS = (
    *(b"/sales/" + each.replace(b" ", b"") for each in RAW[:5]),
    b"/a%0D%0Ab", b"/%1b%5b31m", b"/%e2%80%ae%e2%80%a8", b"/%C2%9B", b"/%7F", b"/%00", b"/%22%27", b"/%ff", b"/a'b",
    b"/sales/" + quote(ODD).encode() + b"/daily.csv",
)  # fmt: skip
VALUES = ("\"'", "\"'\\ é\u202e", "\u2028", "\x9b", "\r\n", "\x1b[31m", "\x7f", ODD, '=cmd|"a"!b')
TEXTS = (["tail", "-n", "500"], ["query", "--limit", "500"], ["query", "--limit", "500", "--explain"])  # fmt: skip
"""For people: each event, or access, is one line of printable characters."""
MORE = (["tail", "-n", "500", "--json"], ["query", "--limit", "500", "--json"], ["query", "--limit", "500", "--csv"])  # fmt: skip
"""For programs: one line, too, and no control character on it."""


def log(*words: object, status: int = 0) -> str:
    ran = CliRunner().invoke(main, ["log", *map(str, words)], catch_exceptions=False)
    assert ran.exit_code == status, ran.output
    return ran.stdout


def on_a_terminal(*words: str) -> str:
    """What a verb prints where its standard output is a terminal."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "1000"}
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", "log", *words],
        cwd=ROOT,
        stdout=follower,
        env=environment,
    ) as process:
        os.close(follower)
        told = bytearray()
        with contextlib.suppress(OSError):  # EIO at the end
            while piece := os.read(leader, 1 << 16):
                told += piece
        os.close(leader)
    assert process.returncode == 0
    text = told.decode().replace("\r\n", "\n")
    return re.sub(
        "\x1b\\[[01]m", "", text
    )  # headings are bold, which nobody asked for with a request


def requests(proxy: Proxy) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each odd request."""

    def made(
        target: bytes = PATH.encode(), fields: bytes = b"", method: bytes = b"GET", **claims: Any
    ) -> bytes:
        stated = {"subject": "alice", "groups": ("analysts",), **claims}
        token = proxy.issuer.token(stated.pop("subject"), **stated).encode()
        return (
            method + b" " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Authorization: Bearer " + token + b"\r\n" + fields + b"\r\n"
        )

    for target in TARGETS:
        yield f"target {target!r}", made(target)
    for value in VALUES:
        yield f"value {value!r}", made(f"{PATH}?region={quote(value)}".encode())
        yield f"parameter {value!r}", made(f"{PATH}?{quote(value)}=1".encode())
    for raw in RAW:
        yield f"query {raw!r}", made(PATH.encode() + b"?region=" + raw.replace(b" ", b""))
        yield f"method {raw!r}", made(method=raw.replace(b" ", b""))
        for name in (b"User-Agent", b"Counterfoil-Purpose", b"X-Odd", b"Counterfoil-Event", b"traceparent"):  # fmt: skip
            yield f"{name.decode()} {raw!r}", made(fields=name + b": " + raw + b"\r\n")
    for name in NAMES:
        yield f"subject {name!r}", made(subject=name)
        yield f"group {name!r}", made(groups=("analysts", name))
        yield f"tool {name!r}", made(tool=name)
        yield f"region {name!r}", made(region=name)
        yield f"jti {name!r}", made(jti=name)
        yield f"stores {name!r}", made(stores=[name])


@pytest.mark.threat("H65")
def test_odd_bytes_of_a_request_are_one_event_one_line_and_a_log_that_verifies(tmp_path):
    """Whatever stands in target, query, fields or claims: one event, a line of its own in all forms, a whole log."""
    with stage(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES) as (store, proxy):
        store.pages[PATH] = Page(sales.as_csv(sales.rows(20)))
        path = proxy.home.folder / "access.db"
        asked: dict[str, str] = {}
        known = len(proxy.events())
        for name, request in requests(proxy):
            proxy.app.gateway.recorder._bursts = Bursts()  # each on record by itself, however fast
            answer = wire.parse(wire.exchange(proxy.url, request))
            events = proxy.events()
            assert [event.access for event in events[known:]] == [answer.event], name
            assert events[-1].status == answer.status, name
            known = len(events)
            asked[answer.event] = name
        assert len(asked) > 100
        forms = [
            *((log(*words, "--log", path), str.isprintable) for words in TEXTS),
            *((log(*words, "--log", path), without_controls) for words in MORE),
            *((on_a_terminal(*words, "--log", str(path)), str.isprintable) for words in (*TEXTS, *MORE)),
        ]  # fmt: skip
        for told, plain in forms:
            lines = told.replace("\r\n", "\n").split("\n")
            assert all(map(plain, lines))
            for access, name in asked.items():
                assert sum(access in line for line in lines) == 1, name
        assert len(forms[3][0].splitlines()) == known
        assert {json.loads(line)["access"] for line in forms[4][0].splitlines()} >= asked.keys()
        rows = list(csv.DictReader(io.StringIO(forms[5][0], newline="")))
        assert {row["access"] for row in rows} >= asked.keys()
        parameters = [event.parameters.get("region") for event in proxy.events()]
        assert VALUES[0] in parameters and VALUES[1] in parameters
        assert "user:o\"neil'\\\\" in forms[0][0]
        log("verify", "--log", path)
    log("verify", "--log", path)


def without_controls(line: str) -> bool:
    return not any(unicodedata.category(character) == "Cc" for character in line)


ASKED = 300
"""Requests of each run: more than a tile of 256 entries holds."""
LEAF = "SELECT entry FROM leaf WHERE place = ?"
FLIPPED, MOVED, SPLICED, CUT = 290, 100, 260, 280
"""The entries with which each begins."""


def put(database: sqlite3.Connection, epoch: int, index: int, entry: bytes) -> None:
    sql = "UPDATE leaf SET entry = ? WHERE place = ?"
    assert database.execute(sql, (entry, place_of(epoch, index))).rowcount == 1


def entry(database: sqlite3.Connection, epoch: int, index: int) -> bytes:
    return database.execute(LEAF, (place_of(epoch, index),)).fetchone()[0]


def flip(database: sqlite3.Connection) -> None:
    bent = bytearray(entry(database, 2, FLIPPED))
    bent[len(bent) // 2] ^= 1
    put(database, 2, FLIPPED, bytes(bent))


def reorder(database: sqlite3.Connection) -> None:
    one, other = entry(database, 1, MOVED), entry(database, 1, MOVED + 1)
    put(database, 1, MOVED, other)
    put(database, 1, MOVED + 1, one)


def splice(database: sqlite3.Connection) -> None:
    for index in range(SPLICED, SPLICED + 10):
        put(database, 2, index, entry(database, 1, index))


def cut(epoch: int) -> Callable[[sqlite3.Connection], None]:
    def made(database: sqlite3.Connection) -> None:
        sql = "DELETE FROM leaf WHERE place >= ? AND place < ?"
        assert database.execute(sql, (place_of(epoch, CUT), place_of(epoch + 1, 0))).rowcount > 9

    return made


ENTRIES = {
    "a bit flipped": (flip, "counterfoil/2, entry 256: "),
    "two reordered": (reorder, "counterfoil/1, entry 0: "),
    "ten spliced in from the run before": (splice, "counterfoil/2, entry 256: "),
    "the tail dropped": (cut(2), f"counterfoil/2, entry {CUT}: "),
    "the tail of the run before dropped": (cut(1), f"counterfoil/1, entry {CUT}: "),
}
"""Done to the log's database; the place is the first entry that is gone, or of the tile of the one that is wrong."""


def bent(data: bytes, _: bytes) -> bytes:
    return data[:99] + bytes([data[99] ^ 1]) + data[100:]


def dropped(data: bytes, _: bytes) -> bytes:
    return data[: len(data) // 2]


def spliced(_: bytes, other: bytes) -> bytes:
    return other


def reordered(data: bytes, _: bytes) -> bytes:
    """Two hashes of 32 bytes, or two entries with the length before each in two bytes."""
    if len(data) % 32 == 0:
        return data[32:64] + data[:32] + data[64:]
    one = 2 + int.from_bytes(data[:2], "big")
    two = one + 2 + int.from_bytes(data[one : one + 2], "big")
    return data[one:two] + data[:one] + data[two:]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> tuple[Path, Path]:
    """The folder of a server that has been asked over sockets, in two runs; and as it was between them."""
    folder, between = (tmp_path_factory.mktemp("log") / name for name in ("home", "between"))
    background = Background()
    store = Store(background)
    store.pages[PATH] = Page(sales.as_csv(sales.rows(20)))
    home = Home(folder, reports=sales.REPORTS, rules=sales.RULES, store=store.url)
    alice = home.issuer.token("alice", groups=("analysts",))
    for run in (1, 2):
        with running(home, background) as proxy:
            asked = {proxy.get(PATH, token=alice).event for _ in range(ASKED)}
        assert len(asked) == ASKED and asked <= {event.access for event in home.events()}
        if run == 1:
            shutil.copytree(folder, between)
    store.close()
    background.close()
    log("verify", "--log", folder / "access.db")
    return folder, between


@pytest.fixture
def path(stopped, tmp_path) -> Path:
    """The log's file in a folder that may be changed."""
    shutil.copytree(stopped[0], tmp_path / "home")
    return tmp_path / "home" / "access.db"


@pytest.mark.threat("H68")
@pytest.mark.parametrize(("change", "place"), ENTRIES.values(), ids=ENTRIES.keys())
def test_what_is_done_to_the_entries_of_a_server_is_found_in_its_place(path, change, place):
    """A tail dropped, a bit flipped, entries reordered or spliced in the database: `log verify` names the place."""
    with forced(path) as database:
        change(database)
    assert place in log("verify", "--log", path, status=40)


@pytest.mark.threat("H68")
@pytest.mark.parametrize("change", [bent, dropped, spliced, reordered])
@pytest.mark.parametrize("kind", ["0", "entries"])
def test_what_is_done_to_the_published_files_of_a_server_is_found_in_its_place(path, kind, change):
    """The same in a published file, of hashes or of entries: found beside the log, and in a copy of the files alone."""
    files = Files.at(path)
    with contextlib.closing(Leaves(files)) as source:
        key = source.key()
    other, file = (
        max(
            (registry.folder_of(files, run) / f"tile/{kind}/001.p").iterdir(),
            key=lambda one: int(one.name),
        )
        for run in (1, 2)
    )
    data = file.read_bytes()
    file.write_bytes(change(data, other.read_bytes()))
    assert file.read_bytes() != data
    beside = log("verify", "--log", path, status=40)
    assert re.search(rf"counterfoil/2, entry 256: .*tile/{kind}/001", beside), beside
    alone = log("verify", "--tiles", files.tiles, "--vkey", key, status=40)
    assert "counterfoil/2, entry 256: " in alone, alone


@pytest.mark.threat("H68")
def test_the_files_of_a_server_as_they_were_contradict_what_was_retained(stopped, tmp_path):
    """With the whole last run dropped from all files the rest fits: a checkpoint kept elsewhere names the log."""
    folder, between = stopped
    kept = tmp_path / "kept"
    shutil.copyfile(registry.folder_of(Files.at(folder / "access.db"), 2) / "checkpoint", kept)
    shutil.copytree(between, tmp_path / "home")
    path = tmp_path / "home" / "access.db"
    log("verify", "--log", path)
    told = log("verify", "--log", path, "--retained", kept, status=30)
    assert "counterfoil/2" in told
