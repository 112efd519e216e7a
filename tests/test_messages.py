"""What the process says as JSON: one object a line, whatever happens, with the access it is about and no value."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from proxy.messages import Json, Text
from proxy.values import instant
from tests.harness import sales
from tests.harness.background import Background
from tests.harness.process import ROOT, Served
from tests.harness.proxy import Home
from tests.harness.store import Page, Store

PATH = "/sales/daily.csv"
SPEAK = """
import logging
from proxy import process
from proxy.settings import Logging
process.prepare()
process.speak(Logging(format="json", level="error"))
logging.getLogger("counterfoil").warning("not said")
logging.getLogger("counterfoil").error("said")
"""
KEYS = {"time", "level", "logger", "message", "access", "process", "error"}


@pytest.fixture
def store():
    background = Background()
    running = Store(background)
    yield running
    running.close()
    background.close()


def lines(output: str) -> list[dict[str, str]]:
    found = [json.loads(line) for line in output.splitlines()]
    for line in found:
        assert {"time", "level", "logger", "message"} <= line.keys() <= KEYS
        assert all(isinstance(value, str) for value in line.values())
        assert instant(line["time"]) is not None and line["time"].endswith("Z")
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_says_all_that_it_says_as_json(store, tmp_path, workers):
    """Starting, a store that lies, a reload that is refused, stopping: each line an object, at its most talkative."""
    home = Home(
        tmp_path / "home",
        reports=sales.REPORTS,
        rules=sales.RULES,
        store=store.url,
        settings=f"workers: {workers}\nlogging: {{format: json, level: debug}}\n",
    )
    store.pages[PATH] = Page(sales.as_csv(sales.rows(9)) + b'2026-01-01,1,"canary')
    with Served(home) as served:
        answer = served.get(PATH, token=home.issuer.token("alice", groups=("analysts",)))
        assert answer.status == 502
        event = answer.headers["counterfoil-event"]
    said = lines(served.output)
    assert [line["level"] for line in said if line.get("access") == event] == ["warning"]
    assert any("listens on" in line["message"] for line in said)
    assert "canary" not in served.output
    (about,) = [line for line in said if line.get("access") == event]
    assert (about.get("process", "") in ("worker 0", "worker 1")) == (workers == 2)


def test_the_least_that_is_said_is_set():
    """At `error`, in a process of its own, an error is said and no warning."""
    done = subprocess.run(
        [sys.executable, "-c", SPEAK],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (line,) = lines(done.stderr)
    assert line["message"] == "said" and not done.stdout


def test_why_it_does_not_start_is_said_as_json_too(tmp_path):
    """On stderr, at the level `critical`; nothing on stdout."""
    home = Home(
        tmp_path / "home",
        reports=sales.REPORTS,
        rules=sales.RULES,
        store="http://127.0.0.1:9",
        settings="logging: {format: json}\n",
    )
    (home.folder / "keyring.json").chmod(0o644)
    ended = _serve(home)
    assert ended.returncode == 1 and not ended.stdout
    (line,) = lines(ended.stderr)
    assert line["level"] == "critical" and "open to others" in line["message"]


def _serve(home: Home) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", "serve", "-c", str(home.settings)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    "text", ["two\nlines", "\x1b[31m", 'a "quote" \\', "half \ud800", "Ö\u2028"]
)
def test_a_line_is_one_line_and_means_the_same(text):
    """Whatever is said, with an error or not: one line, which reads back; of an error only where."""
    try:
        raise ValueError("canary")
    except ValueError:
        failure = sys.exc_info()
    record = logging.LogRecord("counterfoil", logging.ERROR, "", 1, "%s", (text,), failure)
    (line,) = lines(Json("worker 1").format(record))
    assert line["message"] == text.replace("\ud800", "\\ud800")
    assert line["error"].startswith("ValueError at ") and "canary" not in line["error"]
    assert line["process"] == "worker 1" and "access" not in line


def test_people_are_told_of_an_error_where_it_arose_alone():
    """Its message, which may hold a value, is in no line for people either, whoever logs it."""
    try:
        raise ValueError("canary")
    except ValueError:
        failure = sys.exc_info()
    record = logging.LogRecord("elsewhere", logging.ERROR, "", 1, "it failed", (), failure)
    said = Text().format(record)
    assert "it failed\nValueError at " in said and "canary" not in said
