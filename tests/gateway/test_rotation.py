"""Keys are rotated under a running server: nothing is lost, nothing fails, nothing is under two keys."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.keys import Keyring
from proxy.keys import file as keyring_file
from proxy.keys.kek import kek_of
from proxy.treatments.base import Site
from proxy.treatments.encryption import opened as unsealed
from proxy.values import Type
from tests.gateway.reloading import soon, status
from tests.harness import aside, wire
from tests.harness.background import Background
from tests.harness.proxy import Home, Proxy, running, stage
from tests.harness.store import Page

REPORTS = """\
stores: {main: {url: "{store}", loopback: true}}
reports:
  r/sealed:
    title: Values that are encrypted
    store: main
    key: [k]
    variants: [{path: /sealed.csv, format: csv}]
    fields: {k: {type: text, class: public}, s: {type: text, class: personal}}
  r/named:
    title: Values that have pseudonyms
    store: main
    variants: [{path: /named.csv, format: csv}]
    parameters: {s: {type: text, field: k}}
    fields: {k: {type: text, class: public}, s: {type: text, class: personal}}
"""
RULES = """\
p,  tool:app, r/*, act,  true, allow
p,  role:x,   r/*, read, true, allow
p2, role:x,   r/*, true, k, clear
p2, role:x,   r/sealed, true, s, encrypt
p2, role:x,   r/named, true, s, pseudonym
g,  group:x,  role:x
"""
ROWS = 40
DOCUMENT = "k,s\n" + "".join(f"{n},canary{n % 7}\n" for n in range(ROWS))
LONG = "k,s\n" + "".join(f"{n},canary{n}\n" for n in range(60_000))


TOKEN = "s" * 32
SETTINGS = "metrics: {port: 0, token: 'env:SCRAPE_TOKEN'}\n"


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("SCRAPE_TOKEN", TOKEN)
    with stage(tmp_path, reports=REPORTS, rules=RULES, settings=SETTINGS) as (store, proxy):
        for path in ("/sealed.csv", "/named.csv"):
            store.pages[path] = Page(DOCUMENT.encode())
        yield store, proxy


@pytest.fixture
def proxy(world):
    return world[1]


def keys(proxy: Proxy, *words: str) -> tuple[int, str]:
    asked = ["keys", *words, "-c", str(proxy.home.settings)]
    result = CliRunner().invoke(main, asked, catch_exceptions=False)
    return result.exit_code, result.output


def rotate(proxy: Proxy, *words: str) -> Keyring:
    """Rotate, and wait until the server has seen it by itself; gives the file's keyring."""
    assert keys(proxy, "rotate", *words)[0] == 0
    keyring = filed(proxy)
    assert soon(lambda: in_force(proxy) == (keyring.sealing, keyring.naming))
    return keyring


def filed(proxy: Proxy) -> Keyring:
    folder = proxy.home.folder
    return keyring_file.read(folder / "keyring.json", kek_of(f"file:{folder / 'kek'}", {}))


def in_force(proxy: Proxy) -> tuple[str, str]:
    keyring = proxy.app.keys.keyring
    return keyring.sealing, keyring.naming


def ask(proxy: Proxy, path: str, **headers: str) -> wire.Answer:
    token = proxy.issuer.token("alice", groups=("x",))
    return proxy.get(
        path, token=token, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def cells(answer: wire.Answer) -> list[str]:
    return [row["s"] for row in csv.DictReader(io.StringIO(answer.body.decode()))]


def key_ids(answer: wire.Answer) -> set[str]:
    return {cell.split(".")[1] for cell in cells(answer)}


def opened(answer: wire.Answer, keyring: Keyring) -> list[str]:
    """The cells' values."""
    site = Site(
        report="r/sealed",
        field="s",
        type=Type.TEXT,
        key=("k",),
        purpose="",
        subject="",
        keyring=keyring,
        types={"k": Type.TEXT, "s": Type.TEXT},
    )
    return [unsealed(cell, site, {"k": str(n)}).text for n, cell in enumerate(cells(answer))]


def ready(proxy: Proxy) -> dict[str, str]:
    return json.loads(proxy.get("/-/ready").body)


def told(proxy: Proxy) -> list[tuple[str, str, str, str]]:
    return [
        (event.step, event.parameters["seals"], event.parameters["names"], event.cause)
        for event in proxy.events()
        if event.step.startswith("keys-")
    ]


def causes(proxy: Proxy) -> set[str]:
    """The causes of a refusal that the metrics tell of."""
    told = wire.get(
        proxy.app.metrics_url.removesuffix("/metrics"), "/metrics", token=TOKEN
    ).body.decode()
    return {
        *re.findall(r'^counterfoil_keys_refused\{cause="([a-z-]+)"\} 1\.0$', told, re.MULTILINE)
    }


@contextmanager
def asking(proxy: Proxy) -> Iterator[dict[str, list[wire.Answer]]]:
    """The answers, by path, to clients that ask again and again."""
    answers: dict[str, list[wire.Answer]] = {"/sealed.csv": [], "/named.csv": []}
    enough = threading.Event()

    def repeat(path: str) -> None:
        while not enough.is_set():
            answers[path].append(ask(proxy, path))

    clients = [threading.Thread(target=repeat, args=(path,)) for path in [*answers] * 4]
    for client in clients:
        client.start()
    try:
        yield answers
    finally:
        enough.set()
        for client in clients:
            client.join()


def test_rotation_under_load_loses_nothing(proxy):
    """No request fails, each answer is under one key, all cells of ever open, pseudonyms stay; --names makes others."""
    ids = [filed(proxy).sealing]
    with asking(proxy) as answers:
        for _ in range(3):
            ids.append(rotate(proxy).sealing)
            so_far = len(answers["/sealed.csv"])
            assert soon(lambda so_far=so_far: len(answers["/sealed.csv"]) > so_far + 8)
        named = [cells(answer) for answer in answers["/named.csv"]]
        last = rotate(proxy, "--names", "--yes")
        ids.append(last.sealing)
        sealed, since = len(answers["/sealed.csv"]), len(answers["/named.csv"])
        assert soon(lambda: len(answers["/named.csv"]) > since + 8)
        assert soon(lambda: len(answers["/sealed.csv"]) > sealed + 8)
    assert {answer.status for path in answers for answer in answers[path]} == {200}
    values = [f"canary{n % 7}" for n in range(ROWS)]
    used = set()
    for answer in answers["/sealed.csv"]:
        (key,) = key_ids(answer)
        used.add(key)
        assert opened(answer, last) == values
    assert used == set(ids)
    assert all(one == named[0] for one in named)
    renamed = cells(answers["/named.csv"][-1])
    assert not set(renamed) & set(named[0])
    assert {tuple(cells(answer)) for answer in answers["/named.csv"]} == {
        tuple(named[0]),
        tuple(renamed),
    }
    assert [seals for _, seals, _, _ in told(proxy)] == ids


def test_a_stream_ends_under_the_keys_that_it_began_with(world):
    """An answer under way when keys are rotated is whole, and its cells and records are under one key."""
    store, proxy = world
    gate = asyncio.Event()

    async def body():
        yield LONG[: 1 << 19].encode()
        await gate.wait()
        yield LONG[1 << 19 :].encode()

    store.pages["/sealed.csv"] = Page(body)
    before = filed(proxy)
    token = proxy.issuer.token("alice", groups=("x",))
    with wire.connect(proxy.url) as sock:
        sock.sendall(
            b"GET /sealed.csv HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Authorization: Bearer " + token.encode() + b"\r\n\r\n"
        )
        received = bytearray(sock.recv(1000))
        after = rotate(proxy, "--names", "--yes")
        store._background.loop.call_soon_threadsafe(gate.set)
        while data := sock.recv(1 << 20):
            received += data
    answer = wire.parse(bytes(received))
    assert key_ids(answer) == {before.sealing}
    assert opened(answer, after) == [f"canary{n}" for n in range(60_000)]
    records = [event for event in proxy.events() if event.access == answer.event]
    assert records[-1].ended == "whole" and len(records) > 2
    assert {event.subject for event in records} == {before.opaque("user:alice")}
    assert records[-1].digest == before.mac("audit-digest").hexdigest(answer.body)


def test_validators_and_kept_views_are_those_of_their_key(proxy):
    """After `rotate` a copy is still current; after --names no validator and no kept view of before is given."""
    first = ask(proxy, "/named.csv")
    etag = first.headers["etag"]
    assert ask(proxy, "/named.csv", If_None_Match=etag).status == 304
    assert ask(proxy, "/named.csv", Range="bytes=0-99").body == first.body[:100]
    rotate(proxy)
    assert ask(proxy, "/named.csv", If_None_Match=etag).status == 304
    rotate(proxy, "--names", "--yes")
    part = ask(proxy, "/named.csv", Range="bytes=0-99")
    again = ask(proxy, "/named.csv", If_None_Match=etag)
    assert again.status == 200 and again.headers["etag"] != etag
    assert part.status == 206 and part.body == again.body[:100] != first.body[:100]
    assert ask(proxy, "/named.csv", Range="bytes=0-99", If_Range=etag).body == again.body


def test_a_subject_is_found_under_all_its_ids(proxy):
    """`log query --subject` finds by name what was recorded under each key, and an opaque id its own."""
    ask(proxy, "/named.csv")
    rotate(proxy, "--names", "--yes")
    ask(proxy, "/named.csv")
    rotate(proxy, "--names", "--yes")
    ask(proxy, "/named.csv")
    own = [event for event in proxy.events() if event.report == "r/named"]
    assert len({event.subject for event in own}) == 3

    def query(subject: str) -> list[str]:
        words = ["log", "query", "-c", str(proxy.home.settings), "--json", "--subject", subject]
        lines = CliRunner().invoke(main, words, catch_exceptions=False).output.splitlines()
        return [json.loads(line)["access"] for line in lines]

    assert soon(lambda: query("alice") == [event.access for event in reversed(own)])
    assert [query(event.subject) for event in own] == [[event.access] for event in own]


@contextmanager
def broken(proxy: Proxy, how: str) -> Iterator[None]:
    """The keyring's file is not as it should be for a while."""
    path = proxy.home.folder / "keyring.json"
    good = path.read_bytes()
    match how:
        case "cut off":
            path.write_bytes(good[:-10])
        case "gone":
            path.unlink()
        case "open to others":
            path.chmod(0o644)
        case "of another server":
            path.unlink()
            keyring_file.create(path, kek_of(f"file:{proxy.home.folder / 'kek'}", {}))
        case "its key is another":
            path = proxy.home.folder / "kek"
            good = path.read_bytes()
            path.write_text("00" * 32)
    yield
    path.write_bytes(good)
    path.chmod(0o600)


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("cut off", "not-opened"),
        ("gone", "not-opened"),
        ("open to others", "not-opened"),
        ("its key is another", "not-opened"),
        ("of another server", "keys-lost"),
    ],
)
def test_a_broken_keyring_leaves_the_last_good_one(proxy, caplog, how, cause):
    """Requests go on; the refusal is on record once, in /-/ready and in the metrics, and ends with what was wrong."""
    caplog.set_level("INFO", "counterfoil")
    before, keyring = in_force(proxy), filed(proxy)
    assert ready(proxy)["keys"] == "in-force"
    with broken(proxy, how):
        assert soon(lambda: ready(proxy)["keys"] == "stale")
        assert ready(proxy)["keys_cause"] == cause and ready(proxy)["status"] == "ready"
        answer = ask(proxy, "/sealed.csv")
        assert opened(answer, keyring) == [f"canary{n % 7}" for n in range(ROWS)]
        assert in_force(proxy) == before
        assert soon(lambda: told(proxy)[-1] == ("keys-refused", *before, cause))
        assert causes(proxy) == {cause}
        assert keys(proxy, "list")[0] == 1
    assert soon(lambda: ready(proxy)["keys"] == "in-force")
    assert "keys_cause" not in ready(proxy)
    assert causes(proxy) == set()
    assert [step for step, *_ in told(proxy)] == ["keys-loaded", "keys-refused", "keys-loaded"]
    assert "the keyring's file is again the one that is in force" in caplog.messages
    assert keys(proxy, "list")[0] == 0
    assert status(proxy)[0] == 0


def test_the_log_shows_what_became_of_a_keyring(proxy):
    """`log tail` and `log query` show which keys sealed and named since when."""
    before, after = filed(proxy), rotate(proxy)
    for words in (("tail",), ("query", "--outcome", "keys-loaded")):
        result = CliRunner().invoke(main, ["log", *words, "-c", str(proxy.home.settings)])
        for keyring in (before, after):
            assert f"key {keyring.sealing} seals, {keyring.naming} names" in result.output


def test_an_older_keyring_is_not_taken(proxy):
    """A copy from before a rotation, put back: what was sealed since would be lost, so the newer keys stay."""
    path = proxy.home.folder / "keyring.json"
    older = path.read_bytes()
    newer = rotate(proxy)
    path.write_bytes(older)
    assert not proxy.reload()
    assert in_force(proxy) == (newer.sealing, newer.naming)
    assert ready(proxy)["keys_cause"] == "keys-lost"
    assert opened(ask(proxy, "/sealed.csv"), newer) == [f"canary{n % 7}" for n in range(ROWS)]


def test_an_older_keyring_is_told_at_a_start(tmp_path, caplog):
    """By the access log: which keys were in force or retired and are not now; and nothing where none is lost."""
    home, background = (
        Home(tmp_path, reports=REPORTS, rules=RULES, store="http://127.0.0.1:9"),
        Background(),
    )
    path = tmp_path / "keyring.json"
    try:
        with running(home, background) as proxy:
            older = path.read_bytes()
            first, newer = filed(proxy).sealing, rotate(proxy, "--names", "--yes").sealing
            standby = path.read_bytes()
            assert keys(proxy, "retire", first)[0] == 0
            assert proxy.reload()
        for content, lost in ((path.read_bytes(), ""), (standby, first), (older, newer)):
            path.write_bytes(content)
            caplog.clear()
            with running(home, background):
                warned = [
                    each.getMessage()
                    for each in caplog.records
                    if "lacks keys" in each.getMessage()
                ]
            assert [each.rpartition(": ")[2] for each in warned] == ([lost] if lost else [])
    finally:
        background.close()


def test_no_key_is_told_of(proxy, caplog):
    """Neither the access log and its companions, the server's log, /-/ready nor the verbs hold key material."""
    caplog.set_level("DEBUG")
    said = [keys(proxy, "list")[1], keys(proxy, "list", "--json")[1]]
    rotate(proxy, "--names", "--yes")
    ask(proxy, "/sealed.csv")
    ask(proxy, "/named.csv", Counterfoil_Purpose="nonsense")
    with broken(proxy, "cut off"):
        proxy.reload()
        said += [json.dumps(ready(proxy)), keys(proxy, "list")[1]]
    files = aside.content(filter(Path.is_file, proxy.home.folder.glob("access*")))
    said += [caplog.text, files.decode("latin-1")]
    assert "keyring not taken" in caplog.text
    secrets = [(proxy.home.folder / "kek").read_text()[:40]]
    for key in filed(proxy).keys:
        derived = filed(proxy).derive("audit-subject", key_id=key.id)
        for secret in (key.secret, derived):
            secrets += [
                secret.hex(),
                base64.b64encode(secret).decode()[:40],
                secret.decode("latin-1"),
            ]
    assert not [secret for secret in secrets for text in said if secret in text]
