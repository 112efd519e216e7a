"""What keeps the proxy from starting is said in plain words, at once, and told by the exit status."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.gateway.reloading import soon
from tests.harness import sales, wire
from tests.harness.certificate import certify
from tests.harness.process import ROOT, Served
from tests.harness.proxy import Home

TLS = ("port: 0", "port: 0, certificate: server.crt, key: server.key")


def start(home: Home, settings: Path | None = None) -> tuple[int, str]:
    """Exit status and output of a proxy that cannot start; it may not ask anybody anything."""
    ended = subprocess.run(
        [sys.executable, "-m", "proxy", "serve", "-c", str(settings or home.settings)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


STARTER = """
import json, sys
from click.testing import CliRunner
from proxy.cli import main
for line in sys.stdin:
    done = CliRunner().invoke(main, ["serve", "-c", line.rstrip()])
    print(json.dumps([done.exit_code, done.output]), flush=True)
"""


@pytest.fixture(scope="module")
def starter() -> Iterator[Callable[[Home], tuple[int, str]]]:
    """As `start`, but many proxies that cannot start share the time that one process takes to be there."""
    with subprocess.Popen(
        [sys.executable, "-c", STARTER],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None

        def start(home: Home) -> tuple[int, str]:
            print(home.settings, file=process.stdin, flush=True)
            status, output = json.loads(process.stdout.readline())
            return status, output

        yield start
        process.stdin.close()
        assert process.wait(30) == 0


def edit(home: Home, old: str, new: str) -> None:
    text = home.settings.read_text()
    assert old in text
    home.settings.write_text(text.replace(old, new))


def metrics(home: Home, what: str) -> None:
    with home.settings.open("a") as file:
        file.write(f"metrics: {{port: 0, {what}}}\n")


def _key_of_another(home: Home) -> None:
    edit(home, *TLS)
    certify(home, other_key=True)


FAULTS: dict[str, tuple[Callable[[Home], object], str]] = {
    "no settings": (lambda home: home.settings.unlink(), "counterfoil.yaml: cannot be read"),
    "settings that are no YAML": (lambda home: home.settings.write_text("a: ["), "not YAML"),
    "an unknown setting": (lambda home: edit(home, "listen:", "lisen:"), "did you mean `listen`?"),
    "no certificate": (
        lambda home: edit(home, *TLS),
        "/home/server.crt, cannot be read: no such file",
    ),
    "no key": (
        lambda home: [edit(home, *TLS), certify(home), (home.folder / "server.key").unlink()],
        "/home/server.key, cannot be read: no such file",
    ),
    "a certificate that is none": (
        lambda home: [edit(home, *TLS), certify(home), (home.folder / "server.crt").write_text("x")],
        "certificate or key cannot be loaded",
    ),
    "the key of another certificate": (_key_of_another, "the key of this certificate"),
    "no TLS in the open": (lambda home: edit(home, "127.0.0.1", "0.0.0.0"), "loopback address only"),
    "clients' certificates without TLS": (
        lambda home: edit(home, "port: 0", "port: 0, clients: {authority: ca.pem}"),
        "without TLS no client shows a certificate",
    ),
    "a balancer by its name": (
        lambda home: edit(home, "port: 0", "port: 0, balancers: {addresses: [balancer]}"),
        "`balancer` is no address or network",
    ),
    "a spool that is not there": (
        lambda home: edit(home, "listen:", "spool: nowhere\nlisten:"),
        "/home/nowhere: No such file or directory",
    ),
    "the name of nothing": (
        lambda home: edit(home, "port: 0", "port: 0, names: ['https://reports.example.com']"),
        "`https://reports.example.com` is no host",
    ),
    "balancers that end TLS, by no name": (
        lambda home: edit(home, "port: 0", "port: 0, balancers: {addresses: [10.0.0.7], forwarded_for: true}"),
        "balancers that end TLS are known to clients by names of their own",
    ),
    "a balancer's certificates for nobody": (
        lambda home: edit(
            home, "port: 0", "port: 0, names: [a.b], balancers: {addresses: [10.0.0.7], client_certificate: true}"
        ),
        "no client certificate counts without `listen.clients`",
    ),
    **{
        f"a balancer that passes connections on, and says {name}": (
            lambda home, name=name: edit(
                home, "port: 0",
                f"port: 0, balancers: {{addresses: [10.0.0.7], proxy_protocol: true, {name}: true}}",
            ),
            f"`{name}` does not go with `proxy_protocol`",
        )
        for name in ("forwarded_for", "client_certificate")
    },
    "a key that is a pipe": (
        lambda home: [
            edit(home, *TLS), certify(home), (home.folder / "server.key").unlink(),
            os.mkfifo(home.folder / "server.key"),
        ],
        "/home/server.key, cannot be read",
    ),
    "an authority that is missing": (
        lambda home: edit(home, "port: 0", TLS[1] + ", clients: {authority: ca.pem}"),
        "`authority` of `listen.clients` cannot be read: no such file",
    ),
    "an authority that is none": (
        lambda home: [
            edit(home, "port: 0", TLS[1] + ", clients: {authority: ca.pem}"),
            (home.folder / "ca.pem").write_text("canary\n"),
        ],
        "`authority` has no certificate in PEM",
    ),
    "metrics in the open": (
        lambda home: metrics(home, "host: 0.0.0.0, token: 'env:HOME'"),
        "the metrics are served on a loopback address only",
    ),
    "metrics without a token": (lambda home: metrics(home, "host: 127.0.0.1"), "token"),
    "a token of nowhere": (lambda home: metrics(home, "token: canary"), "`token` names no source"),
    "a token that is not set": (
        lambda home: metrics(home, "token: 'env:NO_SUCH_VARIABLE'"),
        "the token of `metrics` is missing: the environment variable `NO_SUCH_VARIABLE` is not set",
    ),
    "a token that can be guessed": (
        lambda home: [metrics(home, "token: 'file:t'"), (home.folder / "t").write_text("canary\n")],
        "the token of `metrics` must have 32",
    ),
    "a token's file that is missing": (
        lambda home: metrics(home, "token: 'file:t'"),
        "the token of `metrics` cannot be read: no such file",
    ),
    "more cells at once than in a minute": (
        lambda home: home.settings.write_text(
            home.settings.read_text() + "reveal: {cells: 100, cells_per_minute: 99}\n"
        ),
        "`cells` is more than may be asked for in a minute",
    ),
    "no keyring": (
        lambda home: (home.folder / "keyring.json").unlink(),
        "keyring.json cannot be read: No such file or directory (`counterfoil keys init` makes it, once)",
    ),
    "no key-encryption key": (
        lambda home: edit(home, "file:kek", "env:NO_SUCH_VARIABLE"),
        "NO_SUCH_VARIABLE is not set: it holds the key-encryption key",
    ),
    "a broken keyring": (
        lambda home: (home.folder / "keyring.json").write_bytes(b"\xff{"),
        "is not a keyring file",
    ),
    "a keyring open to others": (
        lambda home: (home.folder / "keyring.json").chmod(0o644),
        "set its mode to 0600",
    ),
    "another key-encryption key": (
        lambda home: (home.folder / "kek").write_text("A" * 43 + "="),
        "does not open under this key",
    ),
    "no policies": (lambda home: shutil.rmtree(home.policies), "policies: cannot be read: no such folder"),
    "an empty policy": (lambda home: home.write("policy.csv", ""), "has no `p` line"),
    "no issuer's keys": (
        lambda home: (home.policies / "jwks.json").unlink(),
        "subjects.yaml:5:18: the keys cannot be read",
    ),
    "a log that is a folder": (
        lambda home: (home.folder / "access.db").mkdir(),
        "access.db is not to be opened",
    ),
    "a log that is none": (
        lambda home: (home.folder / "access.db").write_bytes(b"x" * 5000),
        "access.db is not a database",
    ),
}  # fmt: skip


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(
        tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, store="http://127.0.0.1:1"
    )


def refused(outcome: tuple[int, str], said: str) -> None:
    status, output = outcome
    assert status == 1, output
    assert said in output and output.startswith("counterfoil: "), output
    assert "Traceback" not in output and "canary" not in output and "pass phrase:" not in output


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_missing_or_wrong_is_named(home, starter, fault):
    """One message that names the fault, status 1, no traceback."""
    change, said = FAULTS[fault]
    change(home)
    refused(starter(home), said)


def test_nobody_is_asked_for_a_pass_phrase(home):
    """A key that is encrypted is named, and the terminal stays as it is."""
    edit(home, *TLS)
    certify(home, passphrase=b"canary")
    refused(start(home), "without a pass phrase")


def test_a_port_that_is_taken_is_named(home):
    """The address that another process listens on is in the message."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        edit(home, "port: 0", f"port: {port}")
        refused(start(home), f"cannot listen on 127.0.0.1:{port}")


def test_a_log_whose_lock_is_held_already_is_named(home):
    """Two writers of one log there are never."""
    locks = home.folder / "access-locks"
    locks.mkdir()
    with (locks / "1").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(start(home), "another process writes to this access log")


def test_tls_is_of_this_decade_and_speaks_http_1_1_alone(home):
    """TLS 1.2 or later, ALPN `http/1.1`; what is no TLS gets no answer and breaks nothing."""
    edit(home, *TLS)
    certificate = certify(home)
    with Served(home) as proxy:
        port = int(proxy.url.rpartition(":")[2])
        url = f"https://localhost:{port}"
        plain = wire.exchange(
            f"http://127.0.0.1:{port}", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        assert b"HTTP/" not in plain
        context = ssl.create_default_context(cafile=str(certificate))
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as sock,
            context.wrap_socket(sock, server_hostname="localhost") as secure,
        ):
            assert secure.selected_alpn_protocol() == "http/1.1"
            assert secure.version() == "TLSv1.3" and secure.compression() is None
        for version in (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1):
            old = ssl.create_default_context(cafile=str(certificate))
            old.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.warns(DeprecationWarning, match="deprecated"):
                old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, version
            with (
                socket.create_connection(("127.0.0.1", port), timeout=10) as sock,
                pytest.raises((ssl.SSLError, ConnectionError)),
            ):
                old.wrap_socket(sock, server_hostname="localhost")
        assert wire.get(url, "/-/ready", ca=str(certificate)).status == 200
        assert "Traceback" not in proxy.output


def test_metrics_are_served_over_tls_where_reports_are(home):
    """The listener of the metrics presents the same certificate, and speaks nothing in clear either."""
    edit(home, *TLS)
    certificate = certify(home)
    (home.folder / "t").write_text("t" * 32)
    metrics(home, "token: 'file:t'")
    with Served(home) as proxy:
        wire.get(proxy.url.replace("127.0.0.1", "localhost"), "/-/ready", ca=str(certificate))
        soon(lambda: "metrics are read at" in proxy.output)
        port = int(
            re.search(r"metrics are read at https://127.0.0.1:(\d+)/metrics", proxy.output)[1]
        )
        url = f"https://localhost:{port}"
        assert wire.get(url, "/metrics", token="t" * 32, ca=str(certificate)).status == 200
        assert wire.get(url, "/metrics", token="t" * 31, ca=str(certificate)).status == 401
        plain = wire.exchange(
            f"http://127.0.0.1:{port}", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        assert b"HTTP/" not in plain
