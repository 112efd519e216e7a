"""An export to a syslog server that no one here wrote: rsyslog, over TLS with GnuTLS."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.demo.material import Material, prepare
from tests.audit.records import HOSTILE, event, leaves, write

CONFIGURATION = """\
global(workDirectory="{folder}" maxMessageSize="256k" defaultNetstreamDriver="gtls"
  defaultNetstreamDriverCAFile="{certificates}/ca.crt"
  defaultNetstreamDriverCertFile="{certificates}/server.crt"
  defaultNetstreamDriverKeyFile="{certificates}/server.key"
  parser.escapeControlCharactersOnReceive="off")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
template(name="parsed" type="string" string="%protocol-version%|%syslogfacility%|%syslogseverity%|\
%timereported:::date-rfc3339%|%app-name%|%msgid%|%msg%\\n")
input(type="imtcp" port="0" address="127.0.0.1" listenPortFileName="{folder}/port")
action(type="omfile" file="{folder}/taken" template="parsed")
"""


@contextlib.contextmanager
def rsyslog(folder: Path, material: Material) -> Iterator[int]:
    """Its port; what it takes is in `folder/taken`, parsed."""
    program = shutil.which("rsyslogd") or shutil.which("rsyslogd", path="/usr/sbin")
    if program is None:
        pytest.skip("rsyslogd is not installed: no syslog server of others")
    file = folder / "rsyslog.conf"
    file.write_text(CONFIGURATION.format(folder=folder, certificates=material.certificates))
    process = subprocess.Popen(
        [program, "-n", "-f", file, "-i", folder / "pid"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        until(
            lambda: (folder / "port").is_file() and (folder / "port").read_text().strip(), process
        )
        yield int((folder / "port").read_text())
    finally:
        process.terminate()
        process.communicate(timeout=30)


def until(condition, process: subprocess.Popen[bytes] | None = None) -> None:
    for _ in range(600):
        if condition():
            return
        if process is not None and process.poll() is not None:
            pytest.fail(f"rsyslogd ended:\n{process.communicate()[0].decode()}")
        time.sleep(0.05)
    raise AssertionError("never came true")


def test_rsyslog_takes_an_export_as_it_is(tmp_path: Path) -> None:
    """Each record arrives once, in order and to the byte, with its time, severity and kind; hostile texts too."""
    path = tmp_path / "access.db"
    many = tuple(f"policy.csv:{number}" for number in range(380))
    write(path, [
        event("refusal" if number % 2 else "complete", f"{number:03x}", 1.8e9 + number, tool=HOSTILE,
              groups=(HOSTILE,), path=HOSTILE, lines=many[:number], decision="deny" if number % 2 else "permit")
        for number in range(380)
    ])  # fmt: skip
    entries = [entry for _, entry in leaves(path)]
    folder = tmp_path / "rsyslog"
    folder.mkdir()
    material = prepare(tmp_path / "demo", now=datetime.now(UTC))
    with rsyslog(folder, material) as port:
        words = [
            "log", "export", "--log", path, "--to", f"syslog+tls://localhost:{port}", "--ca", material.ca,
        ]  # fmt: skip
        for form in ("json", "ocsf"):
            said = CliRunner().invoke(main, [*map(str, words), "--as", form])
            assert said.exit_code == 0, said.stderr
        taken = folder / "taken"
        until(lambda: taken.is_file() and taken.read_bytes().count(b"\n") >= 2 * len(entries))
    rows = [line.split(b"|", 6) for line in taken.read_bytes().split(b"\n")[:-1]]
    texts = [row[6].removeprefix(b"\xef\xbb\xbf") for row in rows]
    assert texts[: len(entries)] == entries
    stored = [json.loads(entry) for entry in entries]
    records = [json.loads(text) for text in texts[len(entries) :]]
    assert [each["metadata"]["uid"] for each in records] == [f"{one['access']}-0" for one in stored]
    expected = [
        [b"1", b"13", b"5" if one["step"] == "refusal" else b"6", one["at"].encode(), b"counterfoil",
         one["step"].encode()]
        for one in stored
    ]  # fmt: skip
    assert [row[:6] for row in rows] == expected * 2
