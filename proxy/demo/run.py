"""The demo as running processes: the sample report store and, in front of it, the proxy.

Each is a child in a session of its own, so that Ctrl-C reaches this process alone, which stops
them in order: first the proxy, then the store. They stop too when this process is killed
(`PR_SET_PDEATHSIG`, Linux) or when the terminal goes away (SIGHUP); nothing is left running.
"""

from __future__ import annotations

import ctypes
import http.client
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

import yaml

from proxy import config
from proxy.demo.material import Material
from proxy.errors import CounterfoilError

START_SECONDS: Final = 60
STOP_SECONDS: Final = 5
"""More than `drain_seconds` in the demo's settings: a proxy that is killed leaves accesses unresolved."""
_PR_SET_PDEATHSIG: Final = 1
_TERMINAL: Final = 0
"""The descriptor of standard input."""


def run(material: Material, *, rows: int, say: Callable[[str], None]) -> None:
    """Run the demo until SIGINT, SIGTERM, SIGHUP, or until the terminal goes away.

    Raises CounterfoilError where a port is taken, or a child does not start or stops by itself.
    """
    proxy, store = proxy_url(material), store_url(material)
    check_free(proxy.hostname, proxy.port, f"change `listen` in {_shown(material.settings)}")
    catalogue = _shown(material.policies / "reports.yaml")
    check_free(store.hostname, store.port, f"change `stores` in {catalogue}")
    with ExitStack() as running:
        stopped = running.enter_context(_reasons_to_stop())
        children = {
            "the report store": running.enter_context(
                child(
                    "proxy.demo.store", "--port", str(store.port), "--rows", str(rows),
                    DEMO_STORE_TOKEN=material.store_token.read_text("ascii").strip(),
                )
            ),
            "the proxy": running.enter_context(
                child("proxy", "serve", "--config", str(material.settings))
            ),
        }  # fmt: skip
        waited = time.monotonic()
        while not (_answers(store, material) and _answers(proxy, material)):
            _check_alive(children)
            if time.monotonic() - waited > START_SECONDS:
                raise CounterfoilError(f"the demo is not ready after {START_SECONDS} seconds")
            if stopped(0.1):
                return
        say(guide(material, proxy.geturl(), children["the proxy"].pid))
        while not stopped(0.5):
            _check_alive(children)


def guide(material: Material, url: str, pid: int) -> str:
    """Write what to try, in lines that work when pasted in the demo's folder."""
    counterfoil = _shown(Path(sys.executable).with_name("counterfoil"))
    trust = f" --cacert {_shown(material.ca)}" if url.startswith("https:") else ""

    authority = f" --ca {_shown(material.ca)}" if trust else ""
    given_back = (
        f"COUNTERFOIL_TOKEN=$({counterfoil} demo token erin) {counterfoil} reveal --url {url}{authority}"
        " --purpose audit sales/store-daily buyer_email -"
    )
    policies = _shown(material.policies)
    path, as_sam = "/sales/store-daily.csv", "--group store-owners --tool demo-cli"

    def get(name: str, target: str, then: str = "") -> str:
        token = f'-H "Authorization: Bearer $({counterfoil} demo token {name})" ' if name else ""
        end = "" if then else r" -w '\n'"  # so that the prompt stands on a line of its own
        return f"  curl -sS{end}{trust} {token}'{url}{target}'{then}"

    one_day, few = "/sales/store-daily.csv?from=2026-03-31", " | sed -n 1,4p"
    return "\n".join(
        (
            "",
            f"Counterfoil is at {url}, in front of a report store that asks for its own token.",
            "Ctrl-C stops both. In another terminal, in this folder, the same report as",
            "",
            "an analyst: all stores under pseudonyms, sales to the hundred, no margin, no e-mail",
            get("alice", one_day, few),
            "the owner of two stores: their rows alone, all of them clear but e-mail",
            get("sam", one_day, few),
            "an investigator: all rows, licence and e-mail encrypted",
            get("erin", one_day, few),
            "the addresses of those who returned goods, given back to her for an audit, and on record",
            get("erin", one_day, f" | {given_back} | grep @"),
            "somebody without a grant: there is no such report",
            get("nora", one_day),
            "nobody: a token is needed",
            get("", one_day),
            "",
            "As JSON; another report, an envelope at the store; and one that nobody is granted:",
            get("sam", "/sales/store-daily.json?store_id=2191&from=2026-03-25"),
            get("alice", "/sales/producers.json"),
            get("ada", "/finance/payroll.csv"),
            "",
            "Who asked for what, and what they were given:",
            f"  {counterfoil} log tail --log {_shown(material.folder / 'access.db')}",
            "That nothing of it was changed since, or cut out:",
            f"  {counterfoil} log verify --log {_shown(material.folder / 'access.db')}",
            "What the rules say, whom they let in and why, and whether they do what they should:",
            f"  {counterfoil} policy check {policies}",
            f"  {counterfoil} policy explain sam GET {path} {as_sam} --policies {policies}",
            f"  {counterfoil} policy test {policies}",
            f"Edit {policies}/policy.csv: it is taken as you save. To have it looked at now:",
            f"  kill -HUP {pid}",
            "",
        )
    )


@contextmanager
def child(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m …`; at the end it is stopped, with all that it started."""
    with subprocess.Popen(  # noqa: S603 - our own modules, with our own arguments
        [sys.executable, "-m", *arguments],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_stop_with_parent,  # noqa: PLW1509 - no thread runs here that could hold a lock
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def _reasons_to_stop() -> Iterator[Callable[[float], bool]]:
    """Give a function that waits some seconds for a reason to stop, and tells whether one came.

    A signal writes to a pipe that nobody empties: unlike an event's lock, that is safe where one
    signal interrupts the handler of another. The terminal is watched too: when it goes away, SIGHUP
    reaches the session's leader alone, which may be a make that waits for us.
    """
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    reasons = select.poll()
    reasons.register(readable, select.POLLIN)
    if os.isatty(_TERMINAL):
        reasons.register(_TERMINAL, 0)  # hang-ups are told without being asked for

    def stop(*_: object) -> None:
        with suppress(BlockingIOError):
            os.write(writable, b"!")

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield lambda seconds: any(
            event & (select.POLLIN | select.POLLHUP) for _, event in reasons.poll(seconds * 1000)
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(readable)
        os.close(writable)


def _stop_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies; where it is no Linux, go without."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _check_alive(children: Mapping[str, subprocess.Popen[bytes]]) -> None:
    for name, process in children.items():
        if process.poll() is not None:
            raise CounterfoilError(f"{name} stopped by itself (exit status {process.returncode})")


def check_free(host: str | None, port: int | None, otherwise: str) -> None:
    """Raise CounterfoilError where something listens already; `otherwise` says what else can be done."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CounterfoilError(
                f"cannot listen on {host}:{port} ({error.strerror}): stop what is there, or {otherwise}"
            ) from error


def _answers(url: SplitResult, material: Material) -> bool:
    """Tell whether it is ready: the proxy says so, the store answers anything at all."""
    assert url.hostname is not None
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        context = ssl.create_default_context(cafile=material.ca)
        connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=5, context=context)
    else:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=5)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def proxy_url(material: Material) -> SplitResult:
    """Find the proxy's address in its settings."""
    listen = config.load(material.settings, os.environ).settings.listen
    scheme = "https" if listen.certificate else "http"
    return urlsplit(f"{scheme}://{listen.host}:{listen.port}")


def store_url(material: Material) -> SplitResult:
    """Find the store's address in the catalogue, the one place where it stands."""
    path = material.policies / "reports.yaml"
    try:
        url: str = yaml.safe_load(path.read_bytes())["stores"]["demo"]["url"]
    except (yaml.YAMLError, LookupError, TypeError) as error:
        raise CounterfoilError(f"{_shown(path)}: no store `demo` with a `url`") from error
    return urlsplit(url)


def _shown(path: Path) -> str:
    """Shorten a path for reading and pasting, where it lies in the working directory."""
    return os.path.relpath(path) if path.absolute().is_relative_to(Path.cwd()) else str(path)
