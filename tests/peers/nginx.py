"""nginx serving files: an upstream that no one here wrote."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from tests.harness import sales
from tests.peers.running import free_port, serving

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
  server {{ listen 127.0.0.1:{port}{more}; root {folder}/files; }}
}}
"""
MUTUAL = (
    " ssl; ssl_certificate {folder}/server.crt; ssl_certificate_key {folder}/server.key;"
    " ssl_client_certificate {folder}/clients.pem; ssl_verify_client on; ssl_protocols TLSv1.2 TLSv1.3"
)
"""It asks for a certificate that an authority of `clients.pem` has signed."""


@contextmanager
def nginx(folder: Path, *, more: str = ""):
    """Nginx serving `folder`/files on loopback; `more` is how it listens."""
    port = free_port()
    folder.chmod(0o755)
    (folder / "nginx.conf").write_text(
        CONFIGURATION.format(folder=folder, port=port, more=more.format(folder=folder))
    )
    assert NGINX is not None
    words = [NGINX, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    if os.geteuid() == 0:
        words += ["-g", "user root;"]
    with serving(words, port) as url:
        yield url


@contextmanager
def peer(folder: Path):
    """Its address, the catalogue, and the rows that it gives on each path."""
    (folder / "files/sales").mkdir(parents=True)
    rows = sales.rows(30_000)
    (folder / "files/sales/daily.csv").write_bytes(sales.as_csv(rows))
    (folder / "files/sales/daily.json").write_bytes(sales.as_json(rows))
    with nginx(folder) as url:
        yield url, sales.REPORTS, {"/sales/daily.csv": rows, "/sales/daily.json": rows}
