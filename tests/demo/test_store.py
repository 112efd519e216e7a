"""The sample report store, as a process, over real sockets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from proxy.demo.sales import Sales, Selection
from proxy.demo.store import WRITE
from proxy.values import calendar_date

TOKEN = "a store's token"
SALES = Sales(stores=40, days=30, rows=9000)
SIZE = ("--stores", "40", "--days", "30", "--rows", "9000")


@contextmanager
def store(*arguments: str) -> Iterator[tuple[str, int]]:
    with subprocess.Popen(
        [sys.executable, "-m", "proxy.demo.store", "--port", "0", *arguments],
        env=os.environ | {"DEMO_STORE_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            url = urlsplit(process.stdout.readline().split()[-1])
            yield url.hostname, url.port
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.communicate(timeout=10)[1] == ""
            assert process.returncode == 0


@pytest.fixture(scope="module")
def running():
    with store(*SIZE) as address:
        yield address


def get(address, target, *, token=TOKEN, method="GET"):
    connection = HTTPConnection(*address, timeout=10)
    try:
        connection.request(method, target, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "type_", "body"),
    [
        ("/sales/store-daily.csv", "text/csv; charset=utf-8", SALES.store_daily_csv().body),
        ("/sales/store-daily.json", "application/json", SALES.store_daily_json().body),
        ("/sales/store-daily.ndjson", "application/x-ndjson", SALES.store_daily_ndjson().body),
        ("/sales/producers.json", "application/json", SALES.producers_json().body),
        ("/finance/payroll.csv", "text/csv; charset=utf-8", SALES.payroll_csv().body),
    ],
)
def test_each_report_is_given_whole(running, path, type_, body):
    """Without parameters the store gives the whole report, larger than one write too."""
    assert get(running, path) == (200, type_, body)


def test_a_whole_report_takes_more_than_one_write():
    """The report that the tests fetch is sent in several writes."""
    assert len(SALES.store_daily_csv().body) > WRITE


@pytest.mark.parametrize("format_", ["csv", "json"])
def test_parameters_are_applied(running, format_):
    """from, to and store_id select rows, both days included."""
    selected = Selection(
        first=calendar_date("2026-01-03"), last=calendar_date("2026-01-09"), store_id="2007"
    )
    target = f"/sales/store-daily.{format_}?from=2026-01-03&to=2026-01-09&store_id=2007"
    body = getattr(SALES, f"store_daily_{format_}")(selected).body
    assert get(running, target)[2] == body


@pytest.mark.parametrize("token", ["", "another", TOKEN + "x"])
def test_the_token_is_required(running, token):
    """Without its token the store gives nothing."""
    assert get(running, "/sales/store-daily.csv", token=token)[::2] == (401, b"")


@pytest.mark.parametrize(
    "target",
    [
        "/sales/store-daily.csv?store=2007",
        "/sales/store-daily.csv?from=2026-1-3",
        "/sales/store-daily.csv?store_id=2007&store_id=2008",
        "/sales/producers.json?from=2026-01-03",
    ],
)
def test_parameters_that_mean_nothing_are_refused(running, target):
    """An unknown, malformed or repeated parameter is answered with 400."""
    assert get(running, target)[0] == 400


def test_other_paths_and_methods_are_unknown(running):
    """The store has its four reports, to be read, and nothing else."""
    assert get(running, "/sales")[0] == 404
    assert get(running, "/sales/store-daily.csv", method="POST")[0] == 405


def test_repeat_gives_the_rows_of_a_whole_report_many_times():
    """With --repeat a whole report has its rows so many times, and a selection has them once."""
    with store(*SIZE, "--repeat", "3") as address:
        document = SALES.store_daily_json()
        body = document.head + document.between.join([document.rows] * 3) + document.tail
        assert get(address, "/sales/store-daily.json")[2] == body
        document = SALES.store_daily_csv()
        assert get(address, "/sales/store-daily.csv")[2] == document.head + document.rows * 3
        one = SALES.store_daily_csv(Selection(store_id="2007")).body
        assert get(address, "/sales/store-daily.csv?store_id=2007")[2] == one


def test_whoever_hangs_up_leaves_no_trace():
    """A reader that has enough before the end, as the proxy has for a page, is no error of the store's."""
    with store(*SIZE, "--repeat", "100") as address:
        connection = HTTPConnection(*address, timeout=10)
        authorization = {"Authorization": f"Bearer {TOKEN}"}
        connection.request("GET", "/sales/store-daily.csv", headers=authorization)
        answer = connection.getresponse()
        assert len(answer.read(WRITE)) == WRITE
        answer.close()
        connection.close()
        assert get(address, "/sales/store-daily.csv?store_id=2007")[0] == 200
