"""What somebody types that cannot be: one message on standard error, and nothing that is not so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.cli.policy import folder
from proxy.errors import Fault

ROOT = Path(__file__).parents[2]
LONG = "x" * 300
"""Longer than the name of a file can be."""
ID = "0" * 32


def run(*words, data=None):
    """The outcome; an error that is nobody's fails the test."""
    said = CliRunner().invoke(main, [*map(str, words)], input=data)
    assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    return said


@pytest.mark.parametrize(
    "words",
    [
        ["log", "verify", "--log", LONG],
        ["log", "query", "--log", LONG],
        ["log", "verify", "--vkey", LONG],
        ["policy", "fmt", LONG],
        ["policy", "diff", LONG, "here"],
        ["policy", "diff", "here", LONG],
    ],
)
def test_a_name_that_no_file_can_have_is_told(words, tmp_path, monkeypatch):
    """A name that the system does not take ends in one message, and in no traceback."""
    monkeypatch.chdir(tmp_path)
    said = run(*words)
    assert said.exit_code in (1, 2) and said.output.strip()


@pytest.mark.parametrize(
    "url",
    [
        "https://[::1", "https://127.0.0.1:99999", "https://h:x", "https://exa mple", "https://\udcff",
        "https://" + "x" * 70 + ".example", "https://olga:s3cret@127.0.0.1", "https://:443", "x",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_told_and_not_repeated(url):
    """Whatever is wrong with the server's URL, one message says how it is written, with no credential of it."""
    said = run("revoke", ID, "--url", url, "--token", "t")
    assert said.exit_code == 1 and "https://reports.example.com" in said.stderr
    assert "s3cret" not in said.output


def test_an_authority_that_is_no_certificate_is_told(tmp_path):
    """A file that holds no certificate is named by its option."""
    (tmp_path / "ca").write_bytes(b"\xff")
    said = run(
        "revoke", ID, "--url", "https://127.0.0.1:1", "--token", "t", "--ca", tmp_path / "ca"
    )
    assert said.exit_code == 1 and "--ca cannot be loaded" in said.stderr


@pytest.mark.parametrize("purpose", ["a\nb", "\udcff", "\u20ac"])
def test_a_purpose_that_no_header_holds_is_told(purpose):
    """What cannot be sent is told by name, before anything is."""
    words = ["--url", "http://127.0.0.1:1", "--token", "t", "--purpose", purpose]
    said = run("reveal", "sales/x", "a", "-", *words, data="a\nx\n")
    assert said.exit_code == 2 and "Counterfoil-Purpose cannot be sent" in said.stderr


def test_a_word_that_is_not_utf_8_is_told():
    """What JSON cannot hold is told, and nobody is asked."""
    said = run("lockdown", "\udcff", "--reason", "r", "--url", "http://127.0.0.1:1", "--token", "t")
    assert said.exit_code == 1 and "is not UTF-8" in said.stderr


@contextmanager
def answering(body):
    """Somebody who gives that answer to everything; its URL."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_DELETE = do_POST  # noqa: N815 - a method that the server calls

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' * 50_000, b"[" * 50_000, b"\xff", b'{"id":"\xff"}', b"{}",
        b'{"id":"0","policy":"0","pending":"x"}', b'{"id":"0","policy":"0","pending":null}',
        b'{"id":"0","policy":"0","warnings":5}', b'{"id":0,"policy":"0"}', b'{"cells":[{}]}',
    ],
)  # fmt: skip
def test_an_answer_that_is_not_counterfoil_s_is_never_taken_for_done(body):
    """Whatever somebody else answers, a verb says that it is no answer, and never that it is done."""
    with answering(body) as url:
        said = run("revoke", ID, "--url", url, "--token", "t")
        assert said.exit_code == 1 and "as Counterfoil does" in said.stderr and not said.stdout
        words = ("--url", url, "--token", "t")
        said = run("reveal", "sales/x", "a", "-", *words, data="a\nx\n")
        assert said.exit_code == 2 and "as Counterfoil does" in said.stderr


@pytest.mark.parametrize(
    "words",
    [["log", "export", "--patience", "nan"], ["policy", "diff", "a", "b", "--seconds", "nan"]],
)
def test_what_is_no_number_is_no_time(words):
    """A time that never ends is none that was meant."""
    said = run(*words)
    assert said.exit_code == 2 and "write a number" in said.stderr


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
from proxy.cli import main
from proxy.cli.policy import folder
from proxy.errors import Fault
main()
"""


def test_fmt_says_aligned_of_what_is(tmp_path):
    """Where the disk takes no more, the file stays, its fault is told, and nobody is told that it is aligned."""
    path = tmp_path / "policy.csv"
    lines = b"p,role:x, sales/*,read,true,allow\n" * 50
    path.write_bytes(lines)
    for words in ([], ["--json"]):
        said = subprocess.run(
            [sys.executable, "-c", LIMITED, "policy", "fmt", path, *words],
            cwd=ROOT, capture_output=True, check=False,
        )  # fmt: skip
        assert said.returncode == 2 and b"cannot be written" in said.stdout, said.stderr
        assert b"Traceback" not in said.stderr and b"aligned: " not in said.stdout
        if words:
            assert json.loads(said.stdout)["changed"] == []
    assert path.read_bytes() == lines and [*tmp_path.iterdir()] == [path]


def test_nobody_who_reads_on_is_no_fault():
    """`counterfoil … | head` ends quietly."""
    read, write = os.pipe()
    os.close(read)
    said = subprocess.run(
        [sys.executable, "-m", "proxy", "policy", "schema", "counterfoil"],
        cwd=ROOT, stdout=write, stderr=subprocess.PIPE, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN),
    )  # fmt: skip
    os.close(write)
    assert b"Traceback" not in said.stderr and b"counterfoil:" not in said.stderr


def test_a_file_with_very_many_faults_is_cut_into_lines_once():
    """What is shown of a file grows with its faults, and not with their square."""
    folder._lines.cache_clear()
    files = {"policy.csv": b"p, x\n" * 100}
    for line in range(1, 101):
        folder.show(Fault(file="policy.csv", line=line, message="m"), files, label="e", color="red")
    assert folder._lines.cache_info().misses == 1
