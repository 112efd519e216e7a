"""nginx serving files: an upstream that no one here wrote."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from tests.harness import sales

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
MISSING = None if NGINX else "nginx is not installed"
CONFIGURATION = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  types {{ text/csv csv; application/json json; }}
  gzip on; gzip_types text/csv application/json;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {folder}/files; }}
}}
"""


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


@contextmanager
def peer(folder: Path):
    """Its address, the catalogue, and the rows that it gives on each path."""
    (folder / "files/sales").mkdir(parents=True)
    rows = sales.rows(30_000)
    (folder / "files/sales/daily.csv").write_bytes(sales.as_csv(rows))
    (folder / "files/sales/daily.json").write_bytes(sales.as_json(rows))
    with nginx(folder) as url:
        yield url, sales.REPORTS, {"/sales/daily.csv": rows, "/sales/daily.json": rows}
