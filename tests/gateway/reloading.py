"""What the tests of reloads look at, and wait for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from click.testing import CliRunner

from proxy.access import AccessEvent
from proxy.cli import main
from proxy.snapshot import read_folder, version_of
from tests.harness import sales, wire
from tests.harness.proxy import Proxy
from tests.harness.store import Page

SOON = 30.0
PATH = "/sales/daily.csv"
LONG = sales.as_csv(sales.rows(40_000))


def soon(holds: Callable[[], object]) -> bool:
    until = time.monotonic() + SOON
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def in_force(proxy: Proxy) -> str:
    return proxy.app.policy.snapshot.version


def follows(proxy: Proxy) -> bool:
    """Whether the policy in force becomes that of the folder."""
    return soon(lambda: in_force(proxy) == version_of(read_folder(proxy.home.policies)))


def loads(proxy: Proxy) -> list[AccessEvent]:
    return [event for event in proxy.events() if event.step.startswith("policy-")]


def status(proxy: Proxy) -> tuple[int, str]:
    """The exit status of `policy status`, and what it says."""
    words = ["policy", "status", "-c", str(proxy.home.settings)]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    return result.exit_code, result.output


class Stream:
    """A long answer under way, whose store waits in the middle until it is told to go on."""

    def __init__(self, store, proxy, groups=("analysts",), *, lifetime: float = 600) -> None:
        self._loop = store._background.loop
        self._gate = asyncio.Event()
        store.pages[PATH] = Page(self._body)
        self.proxy = proxy
        token = proxy.issuer.token("alice", groups=groups, lifetime=lifetime)
        self._sock = wire.connect(proxy.url)
        self._sock.sendall(
            f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Authorization: Bearer {token}\r\n\r\n".encode()
        )
        self._received = bytearray(self._sock.recv(1000))

    async def _body(self):
        yield LONG[: 1 << 20]
        await self._gate.wait()
        yield LONG[1 << 20 :]

    def end(self) -> tuple[wire.Answer, list]:
        """The answer, and its records."""
        self._loop.call_soon_threadsafe(self._gate.set)
        with self._sock:
            try:
                while data := self._sock.recv(1 << 20):
                    self._received += data
            except ConnectionError:
                pass
        answer = wire.parse(bytes(self._received))
        for _ in range(200):
            records = [event for event in self.proxy.events() if event.access == answer.event]
            if records[-1].ended:
                break
            threading.Event().wait(0.02)
        return answer, records
