"""Content codings over real sockets: taken off what stores send, put on what requesters ask for."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
import shutil
import socket
import subprocess
import threading
import time
import zlib
from functools import partial
from pathlib import Path

import pytest

from proxy import codings
from proxy.codings import CAUSES, Limits, zstd
from proxy.gateway.view import BLOCK
from proxy.upstream import source
from tests.harness import sales, wire
from tests.harness.process import Served
from tests.harness.proxy import Home, running, stage
from tests.harness.store import Page, Store
from tests.peers import nginx
from tests.test_codings import CODERS, decoded

PATH, JSON_PATH = "/sales/daily.csv", "/sales/daily.json"
ROWS = sales.rows(20)
LONG_ROWS = sales.rows(40_000)
LONG = sales.as_csv(LONG_ROWS)
COMPRESSING = sales.REPORTS.replace("loopback: true", "loopback: true, compression: true")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codings")
    with stage(folder, reports=sales.REPORTS, rules=sales.RULES) as both:
        yield both


@pytest.fixture
def store(world) -> Store:
    world[0].pages.clear()
    world[0].asked.clear()
    return world[0]


@pytest.fixture
def ask(world, store):
    """Asks as alice, of whom two fields are hidden or changed; `coding` is what she accepts."""
    token = world[1].issuer.token("alice", groups=("analysts",))

    def asked(path=PATH, coding=None, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if coding is not None:
            named["Accept-Encoding"] = coding
        method = named.pop("method", "GET")
        return world[1].get(path, token=token, headers=named, method=method)

    return asked


def event_of(world, answer):
    return [event for event in world[1].events() if event.access == answer.event][-1]


def plain(answer: wire.Answer) -> bytes:
    """The body without its content coding."""
    coding = answer.headers.get("content-encoding")
    if coding is None:
        return answer.body
    body, cause = decoded(coding, answer.body, limits=Limits(ratio=10_000))
    assert not cause
    return body


def page(body: bytes, coding: str, kind: str = "text/csv", **more) -> Page:
    return Page(body, content_type=kind, headers={"Content-Encoding": coding}, **more)


# ── from stores ──


@pytest.mark.parametrize("kind", CODERS)
@pytest.mark.parametrize("pieces", [0, 61, 60_000])
def test_what_stores_send_coded_is_the_report(world, store, ask, kind, pieces):
    """An answer of every coding, short and long, in any pieces, gives what it gives without one."""
    coding, code = CODERS[kind]
    for path, media_type, body in (
        (PATH, "text/csv", sales.as_csv(ROWS)),
        (JSON_PATH, "application/json", sales.as_json(ROWS)),
        *([(PATH, "text/csv", LONG)] if pieces != 61 else ()),
    ):
        store.pages[path] = Page(body, content_type=media_type)
        expected = ask(path)
        store.pages[path] = page(code(body), coding, media_type, pieces=pieces)
        answer = ask(path)
        assert expected.status == 200 and answer.seen() == expected.seen()
        assert b"canary" not in answer.raw


def test_stores_are_asked_for_a_coding_where_the_catalogue_says_so(tmp_path, store, ask):
    """By default a store is asked to send its answer as it is, whatever the client accepts."""
    store.pages[PATH] = Page(sales.as_csv(ROWS))
    ask(coding="br, gzip")
    assert store.asked[-1][1]["accept-encoding"] == "identity"
    with stage(tmp_path, reports=COMPRESSING, rules=sales.RULES) as (other, proxy):
        other.pages[PATH] = page(zstd.compress(sales.as_csv(ROWS)), "zstd")
        token = proxy.issuer.token("alice", groups=("analysts",))
        assert proxy.get(PATH, token=token, headers={"Accept-Encoding": "br"}).body == ask().body
        assert other.asked[-1][1]["accept-encoding"] == "zstd, gzip"


GOOD = gzip.compress(sales.as_csv(ROWS))


@pytest.mark.threat("E46")
@pytest.mark.parametrize(
    ("body", "fields", "cause"),
    [
        (GOOD, "br", "coding-malformed"),
        (sales.as_csv(ROWS), "gzip", "coding-malformed"),
        (GOOD[:-1], "gzip", "coding-truncated"),
        (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), "gzip", "coding-malformed"),
        (GOOD + b"canary", "gzip", "coding-malformed"),
        (gzip.compress(GOOD), "gzip, gzip", "content-coding"),
        (GOOD, "gzip, identity", "content-coding"),
        (GOOD, "gzip\r\nContent-Encoding: gzip", "content-coding"),
        (GOOD, "canary", "content-coding"),
        (b"", "gzip", "coding-truncated"),
        (GOOD, "identity", None),
        (gzip.compress(bytes(2 << 20)), "gzip", "coding-ratio"),
    ],
)
def test_codings_that_stores_get_wrong(tmp_path, background, body, fields, cause):
    """E46: unknown, doubled, twice stated, malformed, cut or damaged codings: 502, nothing of it, and its cause."""
    answer_ = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Encoding: %s\r\n" % fields.encode()
    )
    answer_ += b"Content-Length: %d\r\n\r\n" % len(body) + body
    with raw_store(answer_) as url:
        home = Home(tmp_path, reports=sales.REPORTS, rules=sales.RULES, store=url)
        with running(home, background) as proxy:
            token = proxy.issuer.token("alice", groups=("analysts",))
            answer = proxy.get(PATH, token=token, headers={"Accept-Encoding": "gzip"})
            (event,) = (e for e in proxy.events() if e.access == answer.event)
    assert answer.status == 502 and b"canary" not in answer.raw
    assert answer.headers["content-type"] == "application/problem+json"
    assert "content-encoding" not in answer.headers
    assert event.step == "refusal" and event.reason == "store-answer-refused"
    assert event.cause == cause or cause is None
    assert cause in CAUSES or cause is None


class raw_store:  # noqa: N801 - used as a function
    """A store that answers one connection with some bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> str:
        threading.Thread(target=self._serve, daemon=True).start()
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(self._answer)
            connection.recv(1)

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def test_a_long_answer_whose_coding_breaks_off_is_no_whole_one(world, store, ask):
    """A coding that is damaged after the first rows left: the connection breaks, and that is on record."""
    coded = bytearray(gzip.compress(LONG + LONG.split(b"\n", 1)[1] * 3))
    coded[-5] ^= 1
    store.pages[PATH] = page(bytes(coded), "gzip")
    answer = ask(coding="gzip")
    assert not answer.whole
    for _ in range(100):
        if (ended := event_of(world, answer).ended) != "":
            break
        time.sleep(0.05)
    assert ended == "store-failed"


ROW = sales.as_csv(ROWS[:1])[len(sales.as_csv([])) :]
MIB = ROW * ((1 << 20) // len(ROW))


def bomb(coding: str) -> bytes:
    """300 MB of good rows, in a thousandth of that."""
    head = sales.as_csv([])
    if coding == "zstd":
        return zstd.compress(head) + zstd.compress(MIB) * 300
    compressor = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    begun = compressor.compress(head) + compressor.flush(zlib.Z_FULL_FLUSH)
    return begun + (compressor.compress(MIB) + compressor.flush(zlib.Z_FULL_FLUSH)) * 300


def peak(pid: int) -> float:
    """The process's peak resident memory in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.mark.threat("E47")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("ratio", [200, 100_000])
def test_e47_a_bomb_is_refused_and_fills_no_memory(tmp_path, background, coding, ratio):
    """E47: 300 MB out of some hundred KB: 502 at the ratio, or else at the byte limit; memory is bounded."""
    store = Store(background)
    limits = f"limits: {{compression_ratio: {ratio}, source_bytes: 200000000}}\n"
    home = Home(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, store=store.url,
                settings=limits)  # fmt: skip
    token = home.issuer.token("sam", groups=("owners",), stores=["none"])
    with Served(home) as proxy:
        with proxy.explained():
            store.pages[PATH] = page(gzip.compress(ROW.join([sales.as_csv([]), b""])), "gzip")
            assert proxy.get(PATH, token=token).status == 200
            before = peak(proxy.pid)
            store.pages[PATH] = page(bomb(coding), coding)
            answer = proxy.get(PATH, token=token)
            assert answer.status == 502
            assert peak(proxy.pid) - before < 96
        (event,) = (each for each in proxy.events() if each.access == answer.event)
    store.close()
    assert event.cause == ("coding-ratio" if ratio == 200 else "source-too-long")


async def test_what_takes_long_is_decoded_in_threads(monkeypatch):
    """Only the first steps of a small piece are taken where requests are served, and few at once elsewhere."""
    made: list[tuple[bool, int]] = []
    stepped = codings._stepped

    def watched(member, data):
        out = stepped(member, data)
        made.append((threading.current_thread() is threading.main_thread(), len(out)))
        return out

    monkeypatch.setattr(codings, "_stepped", watched)
    large, small = gzip.compress(random.Random(1).randbytes(1 << 20)), gzip.compress(bytes(1 << 20))
    assert len(small) < 2048

    async def pieces(data):
        yield data

    for data, here in ((large, 0), (small, 2)):
        made.clear()
        read = partial(anext, pieces(data), b"")
        decoding = codings.Decoding.of(["gzip"], codings.Limits())
        held = 0
        async for piece in source._decoded(read, decoding, None):
            held += len(piece)
            assert sum(size for _, size in made) - held <= 3 << 17
        assert held == 1 << 20
        assert sum(main for main, _ in made) == here


@pytest.mark.skipif(bool(nginx.MISSING), reason=str(nginx.MISSING))
def test_nginx_compresses_for_us(tmp_path, background):
    """An nginx that compresses what it serves, in pieces of its own, is taken as one that does not."""
    with nginx.peer(tmp_path / "nginx") as (url, reports, paths):
        compressing = reports.replace("loopback: true", "loopback: true, compression: true")
        assert compressing != reports
        seen = []
        for name, catalogue in (("plain", reports), ("coded", compressing)):
            home = Home(tmp_path / name, reports=catalogue, rules=sales.RULES, store=url)
            with running(home, background) as proxy:
                token = proxy.issuer.token("alice", groups=("analysts",))
                seen.append([proxy.get(path, token=token).body for path in paths])
        assert seen[0] == seen[1] and all(seen[0])


# ── answers ──


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, None), ("", None), ("identity", None), ("gzip", "gzip"), ("x-gzip", "gzip"),
        ("GZIP", "gzip"), ("zstd", "zstd"), ("gzip, zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"), ("gzip, deflate, br", "gzip"), ("br", None),
        ("gzip;q=1, zstd;q=0.9", "gzip"), ("gzip;q=0.5, identity;q=0.6", None),
        ("zstd;q=0, gzip;q=0.001", "gzip"), ("gzip;q=0", None), ("*", "zstd"),
        ("*;q=0, gzip", "gzip"), ("zstd;q=0, *", "gzip"), ("identity;q=0, zstd;q=0.1", "zstd"),
        ("nonsense, deflate;q=1", None), ("br;q=1.0, gzip;q=0.8, *;q=0.1", "gzip"),
        ("identity;q=0", 406), ("*;q=0", 406), ("br, identity;q=0", 406),
        ("gzip;q=0, zstd;q=0, identity;q=0", 406), ("identity;q=0, *;q=0.5", "zstd"),
        ("*;q=0, identity", None), ("gzip ; q=0.5 , zstd ; q=0.4", "gzip"),
    ],
)  # fmt: skip
def test_which_coding_an_answer_has(world, store, ask, accept, expected):
    """RFC 9110 §12.5.3: weights, `*`, `identity;q=0`; 406 where nothing is accepted, and the store is not asked."""
    store.pages[PATH] = Page(sales.as_csv(sales.rows(200)))
    whole = ask().body
    asked = len(store.asked)
    answer = ask(coding=accept)
    event = event_of(world, answer)
    assert "content-encoding" not in answer.headers or expected in ("gzip", "zstd")
    if expected == 406:
        assert (answer.status, event.cause) == (406, "accept-encoding")
        assert json.loads(answer.body)["detail"].startswith(
            "Content codings offered here: zstd, gzip"
        )
        assert len(store.asked) == asked
        return
    assert answer.status == 200 and answer.headers.get("content-encoding") == expected
    assert (
        answer.headers["vary"] == "Accept-Encoding" and "private" in answer.headers["cache-control"]
    )
    assert plain(answer) == whole and (expected is None or len(answer.body) < len(whole) / 2)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("path", [PATH, JSON_PATH])
def test_a_long_answer_is_coded_block_by_block(world, store, ask, coding, path):
    """One chunk a block, each of them decodable when it is there; on record are the bytes without the coding."""
    kind = ("text/csv", LONG) if path == PATH else ("application/json", sales.as_json(LONG_ROWS))
    store.pages[path] = Page(kind[1], content_type=kind[0])
    whole, answer = ask(path), ask(path, coding)
    assert answer.whole and answer.headers["content-encoding"] == coding
    assert len(answer.chunks) == len(whole.chunks) == -(-len(whole.body) // BLOCK)
    inflate = zlib.decompressobj(31) if coding == "gzip" else zstd.ZstdDecompressor()
    at, seen = 0, []
    for size in answer.chunks:
        seen.append(inflate.decompress(answer.body[at : at + size]))
        at += size
    assert tuple(map(len, seen)) == whole.chunks and b"".join(seen) == whole.body
    events = [event_of(world, each) for each in (whole, answer)]
    assert events[0].bytes == events[1].bytes == len(whole.body)
    assert events[0].digest == events[1].digest != ""
    assert events[1].ended == "whole"


def test_short_answers_and_refusals_have_no_coding(world, store, ask):
    """Under a KiB nothing is coded unless it is to be; a refusal never is. What varies is said all the same."""
    store.pages[PATH] = Page(sales.as_csv(ROWS[:3]))
    answer = ask(coding="gzip, zstd")
    assert "content-encoding" not in answer.headers and answer.headers["vary"] == "Accept-Encoding"
    forced = ask(coding="gzip, identity;q=0")
    assert forced.headers["content-encoding"] == "gzip" and plain(forced) == answer.body
    for path in ("/nothing", f"{PATH}?unknown={'x' * 2000}", PATH):
        store.pages.clear()
        refused = ask(path, "gzip, zstd, identity;q=0")
        assert refused.status >= 400 and json.loads(refused.body)["event"] == refused.event
        assert "content-encoding" not in refused.headers


def test_what_may_be_given_in_several_forms_varies_by_accept_too(tmp_path):
    """Where a path has several offers, `Vary` names `Accept`."""
    reports = sales.REPORTS.replace(
        "{path: /sales/daily.json, format: json}",
        "{path: /sales/any, format: json, source: /sales/daily.json, also: [csv]}",
    )
    with stage(tmp_path, reports=reports, rules=sales.RULES) as (store, proxy):
        store.pages[JSON_PATH] = Page(sales.as_json(ROWS), content_type="application/json")
        token = proxy.issuer.token("alice", groups=("analysts",))
        answer = proxy.get("/sales/any", token=token, headers={"Accept-Encoding": "gzip"})
        assert answer.headers["vary"] == "Accept, Accept-Encoding"
        assert answer.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_the_first_rows_leave_at_once(world, store, coding):
    """PROMISE 5: what is there of an answer can be decoded while the store has not sent the rest."""
    go_on = threading.Event()

    async def body():
        yield LONG
        await asyncio.to_thread(go_on.wait, 20)
        yield ROW

    store.pages[PATH] = Page(body)
    token = world[1].issuer.token("alice", groups=("analysts",))
    inflate = zlib.decompressobj(31) if coding == "gzip" else zstd.ZstdDecompressor()
    with wire.connect(world[1].url) as sock:
        head = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {coding}\r\n"
        sock.sendall(f"{head}Authorization: Bearer {token}\r\n\r\n".encode())
        got = b""
        while not (found := re.search(rb"\r\n\r\n([0-9a-f]+)\r\n", got)) or len(got) < (
            found.end() + int(found[1], 16)
        ):
            got += sock.recv(1 << 16)
        rows = inflate.decompress(got[found.end() : found.end() + int(found[1], 16)])
        assert len(rows) == BLOCK and rows.startswith(b"date,store_id")
        go_on.set()
        while not got.endswith(b"0\r\n\r\n"):
            got += sock.recv(1 << 16)


def test_validators_differ_by_coding(world, store, ask):
    """Each coding has a validator of its own; who has either has the answer; ranges are of it without a coding."""
    store.pages[PATH] = Page(sales.as_csv(sales.rows(200)))
    offered = (None, "gzip", "zstd")
    answers = {coding: ask(coding=coding) for coding in offered}
    tags = {coding: answer.headers["etag"] for coding, answer in answers.items()}
    assert len(set(tags.values())) == 3
    for coding in offered:
        for tag in {tags[None], tags[coding]}:
            again = ask(coding=coding, If_None_Match=tag)
            assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
            assert "content-encoding" not in again.headers
            assert (
                ask(coding=coding, If_Match=tag).seen() == answers[coding].seen() or coding is None
            )
        other = "zstd" if coding == "gzip" else "gzip"
        changed = ask(coding=coding, If_None_Match=tags[other])
        assert (changed.status, changed.body) == (200, answers[coding].body)
        assert changed.headers.get("content-encoding") == coding
        assert changed.headers["etag"] == tags[coding]
        assert ask(coding=coding, If_Match=tags[other]).status == 412
        part = ask(coding=coding, Range="bytes=10-99")
        assert (part.status, part.body) == (206, answers[None].body[10:100])
        assert "content-encoding" not in part.headers and part.headers["etag"] == tags[None]
        assert part.headers["vary"] == "Accept-Encoding"
        if coding is not None:
            whole = ask(coding=coding, Range="bytes=10-99", If_Range=tags[coding])
            assert (whole.status, whole.body) == (200, answers[coding].body)
            forced = ask(coding=f"{coding}, identity;q=0", Range="bytes=10-99")
            assert (forced.status, forced.body) == (200, answers[coding].body)
    head = ask(coding="gzip", method="HEAD")
    assert (head.headers["etag"], head.headers["vary"]) == (tags[None], "Accept-Encoding")
    assert int(head.headers["content-length"]) == len(answers[None].body)


def test_a_long_answer_is_the_same_whatever_is_asked_beside_it(store, ask):
    """A condition that does not hold changes nothing of a coded answer but that it has a validator."""
    store.pages[PATH] = Page(LONG)
    first, second = ask(coding="gzip"), ask(coding="gzip", If_None_Match='"other"')
    assert (first.body, first.chunks) == (second.body, second.chunks)
    assert second.headers["etag"].endswith('-gzip"')


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_reads_it(world, store, ask):
    """`curl --compressed` prints what curl prints without it, of a short and a long answer."""
    token = world[1].issuer.token("alice", groups=("analysts",))
    for body in (sales.as_csv(sales.rows(200)), LONG):
        store.pages[PATH] = Page(body)
        words = [
            "curl",
            "-sS",
            "--fail",
            "-H",
            f"Authorization: Bearer {token}",
            world[1].url + PATH,
        ]
        outputs = [
            subprocess.run([*words, *more], capture_output=True, check=True, timeout=60).stdout
            for more in ([], ["--compressed"])
        ]
        assert outputs[0] == outputs[1] == ask().body
