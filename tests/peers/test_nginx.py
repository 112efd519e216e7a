"""The same end-to-end story in front of nginx serving files: an upstream that no one here wrote."""

from __future__ import annotations

import csv
import io
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness import sales
from tests.harness.background import Background
from tests.harness.proxy import Home, running

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
CONFIGURATION = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  types {{ text/csv csv; application/json json; }}
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {folder}/files; }}
}}
"""
IOWA = """\
stores:
  files: {url: "{store}", loopback: true}
reports:
  iowa/sales:
    title: Invoice lines
    store: files
    variants:
      - {path: /iowa/sales.csv, format: csv, source: /iowa.csv, delimiter: ";"}
    fields:
      Invoice/Item Number: {type: text, class: internal}
      Date: {type: text, class: public}
      Store Number: {type: text, class: public}
      Store Name: {type: text, class: confidential}
      Store Location: {type: text, class: public}
      Vendor Name: {type: text, class: public}
      Item Description: {type: text, class: public}
      Sale (Dollars): {type: text, class: confidential}
      Volume Sold (Liters): {type: decimal, class: internal}
"""
IOWA_RULES = """\
p,  tool:app,        iowa/*, act,  true, allow
p,  group:analysts,  iowa/*, read, true, allow
p2, group:analysts,  iowa/*, true, Date|Store Number|Store Location|Item Description, clear
p2, group:analysts,  iowa/*, true, Store Name, pseudonym
p2, group:analysts,  iowa/*, true, Volume Sold (Liters), round(1)
p,  group:owners,    iowa/*, read, true, allow
p2, group:owners,    iowa/*, row['Store Number'] in sub.stores, *, clear
"""

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def nginx(folder: Path):
    """Nginx serving `folder`/files on loopback."""
    port = free_port()
    folder.chmod(0o755)
    (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder, port=port))
    assert NGINX is not None
    words = [NGINX, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    if os.geteuid() == 0:
        words += ["-g", "user root;"]
    process = subprocess.Popen(words)
    try:
        for _ in range(200):
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def background():
    background = Background()
    yield background
    background.close()


def test_a_csv_and_a_json_file_behind_nginx(tmp_path, background):
    """The analyst's and the owner's views of files that nginx serves are what the policy says."""
    folder = tmp_path / "nginx"
    (folder / "files/sales").mkdir(parents=True)
    rows = sales.rows(30_000)
    (folder / "files/sales/daily.csv").write_bytes(sales.as_csv(rows))
    (folder / "files/sales/daily.json").write_bytes(sales.as_json(rows))
    with nginx(folder) as url:
        home = Home(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, store=url)
        with running(home, background) as proxy:
            alice = proxy.issuer.token("alice", groups=("analysts",))
            sam = proxy.issuer.token("sam", groups=("owners",), stores=["3", "7"])
            for path in ("/sales/daily.csv", "/sales/daily.json"):
                answer = proxy.get(path, token=alice)
                assert answer.status == 200 and answer.whole and b"canary" not in answer.body
                assert len(answer.chunks) > 1
            answer = proxy.get("/sales/daily.csv", token=sam)
            seen = list(csv.reader(io.StringIO(answer.body.decode())))
            assert seen[0] == list(sales.FIELDS[:-1])
            assert seen[1:] == [list(row[:-1]) for row in rows if row[1] in ("3", "7")]


@pytest.mark.skipif("COUNTERFOIL_DATA" not in os.environ, reason="COUNTERFOIL_DATA is not set")
def test_real_invoice_lines(tmp_path, background):
    """Real data with `;`, `$` and tabs in quotes: untouched cells are the source's, to the character."""
    source = Path(os.environ["COUNTERFOIL_DATA"]) / "iowa_liquor_10k_semicolon.csv"
    folder = tmp_path / "nginx"
    (folder / "files").mkdir(parents=True)
    shutil.copy(source, folder / "files/iowa.csv")
    original = list(csv.DictReader(io.StringIO(source.read_text("utf-8")), delimiter=";"))
    with nginx(folder) as url:
        home = Home(tmp_path / "home", reports=IOWA, rules=IOWA_RULES, store=url)
        with running(home, background) as proxy:
            alice = proxy.issuer.token("alice", groups=("analysts",))
            answer = proxy.get("/iowa/sales.csv", token=alice)
            assert answer.status == 200 and answer.whole
            seen = list(csv.DictReader(io.StringIO(answer.body.decode()), delimiter=";"))
            assert list(seen[0]) == [
                "Date", "Store Number", "Store Name", "Store Location", "Item Description",
                "Volume Sold (Liters)",
            ]  # fmt: skip
            assert len(seen) == len(original)
            for theirs, ours in zip(original, seen, strict=True):
                for name in ("Date", "Store Number", "Store Location", "Item Description"):
                    assert ours[name] == theirs[name]
                assert ours["Store Name"] != theirs["Store Name"]
            names = {row["Store Name"] for row in original}
            assert len({row["Store Name"] for row in seen}) == len(names)
            sam = proxy.issuer.token("sam", groups=("owners",), stores=["2191"])
            answer = proxy.get("/iowa/sales.csv", token=sam)
            seen = list(csv.DictReader(io.StringIO(answer.body.decode()), delimiter=";"))
            mine = [row for row in original if row["Store Number"] == "2191"]
            assert [row["Sale (Dollars)"] for row in seen] == [
                row["Sale (Dollars)"] for row in mine
            ]
            assert mine
