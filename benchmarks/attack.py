"""What an attacker can do from outside: slow clients, costly bytes, decompression bombs.

slow          a good client's 99th percentile beside 1,000 slow clients, over the same without them
memory-…      how much the resident set grows, for each hostile byte (Envoy's threshold: 100)
cpu-…         the processor's time for each hostile byte, over that for each byte of a request that is refused
bomb-…        how much the resident set grows by a store's answer that is small and becomes large
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Final

import brotli
from backports import zstd

from benchmarks import leak
from benchmarks.figures import Figure
from benchmarks.hostile import HOSTILE, HOSTILE_TLS, send
from benchmarks.memory import peak
from benchmarks.prober import asking, percentile
from benchmarks.stage import REPORTS, TOKEN, start
from tests.harness import wire
from tests.harness.background import Background
from tests.harness.pki import LOCAL, SERVER, Authority
from tests.harness.proxy import Home
from tests.harness.store import Page, Store

SLOW: Final = 1_000
QUIET_SECONDS: Final = 15
SETTLING_SECONDS: Final = 18
ATTACK_SECONDS: Final = 25
"""Longer than a head may take, so that all of them are cut, and come again."""
ORDINARY: Final = 2_000
BOMB: Final = 1 << 30
_CLOCK: Final = os.sysconf("SC_CLK_TCK")


def run() -> Iterator[Figure]:
    """All of it, on loopback."""
    yield _slow()
    yield from _amplification()
    with _world() as (proxy, pid, home, store):
        yield from _bombs(proxy, pid, home.issuer.token("bomb", groups=("analysts",)), store)


# ── slow clients ──


def _slow() -> Figure:
    with ExitStack() as stack:
        url, pid, home = _staged(stack)
        windows = []
        try:
            with asking(url, home.issuer.token("sam", groups=("good",), lifetime=7200)) as answers:
                for attacked in (False, True, False):
                    with _attacked(url, pid, home) if attacked else nullcontext():
                        time.sleep(SETTLING_SECONDS)
                        since = time.monotonic()
                        time.sleep(ATTACK_SECONDS if attacked else QUIET_SECONDS)
                        windows.append((since, time.monotonic()))
        finally:  # the good client is given what it asks for, or the benchmark fails
            found = home.events()
            begun = sum(event.step == "intent" for event in found)
            failed = [event.cause for event in found if event.status >= 500]
            print(f"  {begun} large answers were begun, {len(failed)} failed: {set(failed)}")
    without, with_ = (percentile(answers, each, 0.99) for each in (windows[::2], windows[1:2]))
    print(f"  p99 without: {without:.2f} ms, with: {with_:.2f} ms", flush=True)
    return Figure(name="attack-slow-p99", value=with_ / without, unit="×", bar=2, better="less")


def _staged(stack: ExitStack) -> tuple[str, int, Home]:
    """A proxy, with a store for the good client, and one for the others: it is not the store that is slow."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="counterfoil-attack-")))
    words = ["-m", "proxy.demo.store", "--port", "0", "--token", TOKEN, "--rows", "120000"]
    stores = [start(stack, [sys.executable, *words], "report store")[0] for _ in range(2)]
    own, catalogued = REPORTS.split("reports:\n")
    others = own.partition("\n")[2].replace("bench:", "others:").replace("{store}", stores[1])
    catalogued += (
        catalogued.replace("sales/store-daily:", "others/store-daily:")
        .replace("store: bench", "store: others")
        .replace(
            "path: /sales/store-daily.csv", "source: /sales/store-daily.csv, path: /others.csv"
        )
        .replace("      - {path: /sales/store-daily.json, format: json}\n", "")
        .replace("      - {path: /sales/store-daily.ndjson, format: ndjson}\n", "")
    )
    home = Home(
        folder / "home",
        reports=f"{own}{others}reports:\n{catalogued}",
        rules="".join(
            f"p, tool:app, {what}, act, true, allow\n"
            f"p, group:{who}, {what}, read, true, allow\n"
            f"p2, group:{who}, {what}, true, *, clear\n"
            for who, what in (("good", "sales/*"), ("slow", "others/*"))
        ),
        store=stores[0],
        settings="limits: {requests_per_minute_per_subject: 100000000,"
        " requests_per_minute_per_address: 100000000}\n",
    )
    words = ["-m", "proxy", "serve", "-c", str(home.settings)]
    return *start(stack, [sys.executable, *words], "counterfoil listens"), home


@contextmanager
def _attacked(url: str, pid: int, home: Home) -> Iterator[None]:
    bearer = (
        f"Authorization: Bearer {home.issuer.token('mallory', groups=('slow',), lifetime=7200)}\r\n"
    )
    words = [sys.executable, "-m", "benchmarks.slow", url, str(SLOW), bearer, bearer]
    with ExitStack() as stack:
        start(stack, words, "slow clients")
        yield
        print(f"  {_open(pid)} files are open in the attack", flush=True)


def _open(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


# ── bytes that cost more than they are ──


@contextmanager
def _world(*, tls: bool = False) -> Iterator[tuple[str, int, Home, Store]]:
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="counterfoil-attack-"))
        )
        background = Background()
        stack.callback(background.close)
        store = Store(background)
        stack.callback(store.close)
        for name, document in leak.documents().items():
            store.pages[f"/small.{name}"] = Page(document, leak.TYPES[name])
        listen = ""
        if tls:
            certificate, key = Authority().issue(*LOCAL, usage=SERVER).write(folder, "server")
            listen = f", certificate: {certificate}, key: {key}"
        home = Home(
            folder / "home",
            reports=leak.REPORTS,
            rules=leak.RULES,
            store=store.url,
            listen=listen,
        )
        words = [sys.executable, "-m", "proxy", "serve", "-c", str(home.settings)]
        url, pid = start(stack, words, "counterfoil listens")
        yield url, pid, home, store


def _processor(pid: int) -> float:
    """Seconds of the processor's time so far (proc(5): utime, stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK


def _at_rest(pid: int) -> None:
    """Wait until the process has nothing to do."""
    before = _processor(pid)
    while True:
        time.sleep(0.5)
        now = _processor(pid)
        if now - before <= 0.03:
            return
        before = now


@contextmanager
def _grown(pid: int) -> Iterator[list[float]]:
    """How much the resident set grew at its peak (MiB) is in the list after the block."""
    _at_rest(pid)
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): the peak begins anew
    before, grown = peak(pid), [0.0]
    yield grown
    grown[0] = max(0.0, peak(pid) - before)


def _amplification() -> Iterator[Figure]:
    with _world() as (proxy, pid, home, _):
        ordinary = _ordinary(proxy, pid, home.issuer.token("u", groups=("analysts",)))
    for name, make in {**HOSTILE, **HOSTILE_TLS}.items():
        # A server of its own: what one attack left free would hide what the next one takes.
        with _world(tls=name in HOSTILE_TLS) as (proxy, pid, home, _), _grown(pid) as grown:
            before = _processor(pid)
            token = home.issuer.token("u", groups=("analysts",))
            sent, answered = send(proxy, make, token)
            _at_rest(pid)
            spent = _processor(pid) - before
        print(
            f"  {name}: {sent} bytes, {grown[0]:.1f} MiB, {spent:.2f} s, {dict(answered)}",
            flush=True,
        )
        for what, value in (
            ("memory", grown[0] * (1 << 20) / sent),
            ("cpu", spent / sent / ordinary),
        ):
            yield Figure(
                name=f"attack-{what}-{name}", value=value, unit="×", bar=100, better="less"
            )


def _ordinary(proxy: str, pid: int, token: str) -> float:
    """Seconds of the processor's time for each byte of requests for nothing that there is."""
    head = f"GET /nothing HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    for count in (200, ORDINARY):
        _at_rest(pid)
        before = _processor(pid)
        with wire.connect(proxy) as sock, sock.makefile("rb") as stream:
            for _ in range(count):
                sock.sendall(head)
                length = 0
                while (line := stream.readline()) != b"\r\n":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                stream.read(length)
        spent = _processor(pid) - before
    print(f"  ordinary: {count * len(head)} bytes, {spent:.2f} s", flush=True)
    return spent / (count * len(head))


# ── bombs ──


def _bombs(proxy: str, pid: int, token: str, store: Store) -> Iterator[Figure]:
    settings = 64 << 20
    for name, body, bar in (
        ("gzip", gzip.compress(b"\n" * BOMB, 1), 64),
        ("deflate", zlib.compress(b"\n" * BOMB, 1), 64),
        ("br", _brotli(), 64),
        ("zstd", zstd.compress(b"\n" * BOMB), 64),
        ("xlsx", _workbook(b"<row/>" * (BOMB // 8)), 64),
        ("xlsx-most", _workbook(_cells(settings)), 5 * settings >> 20),
    ):
        coding = {} if name.startswith("xlsx") else {"Content-Encoding": name}
        path = "/small.xlsx" if name.startswith("xlsx") else "/small.csv"
        before = store.pages[path]
        store.pages[path] = Page(body, before.content_type, headers=coding)
        with _grown(pid) as grown:
            answer = wire.get(proxy, path, token=token)
        store.pages[path] = before
        print(f"  {name}: {len(body)} bytes, answered {answer.status}", flush=True)
        yield Figure(name=f"bomb-{name}", value=grown[0], unit="MiB", bar=bar, better="less")


def _brotli() -> bytes:
    compressor = brotli.Compressor(quality=1)
    piece = b"\n" * (1 << 20)
    made = [compressor.process(piece) for _ in range(BOMB >> 20)]
    return b"".join((*made, compressor.finish()))


def _cells(most: int) -> bytes:
    """Rows of a sheet, about as many as may be unpacked, no two alike."""
    rows, size = [], 0
    while size < most * 0.95 and len(rows) < 490_000:  # of four cells each
        number = len(rows) + 2
        cells = b"".join(
            b'<c r="%c%d"><v>%d</v></c>' % (b"ABCD"[at], number, number * (7919 + at) + 10**9)
            for at in range(4)
        )
        rows.append(b'<row r="%d">%b</row>' % (number, cells))
        size += len(rows[-1])
    return b"".join(rows)


def _workbook(rows: bytes) -> bytes:
    """The small report's workbook with other rows after the first."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(leak.documents()["xlsx"])) as given,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made,
    ):
        for name in given.namelist():
            content = given.read(name)
            if name == "xl/worksheets/sheet1.xml":
                first = content.index(b"</row>") + len(b"</row>")
                content = content[:first] + rows + content[content.index(b"</sheetData>") :]
            made.writestr(name, content)
    return out.getvalue()
