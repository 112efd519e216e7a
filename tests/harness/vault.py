"""A transit engine of our own: it answers like HashiCorp Vault's and OpenBao's, as far as it is asked.

Written after the HTTP API that both document (secrets engines, Transit; `/v1/MOUNT/encrypt/NAME`,
`/v1/MOUNT/decrypt/NAME`) and their statuses: it is no Vault. Keys have versions and are AES-256-GCM; a
ciphertext is `vault:vN:` and base64 of nonce, ciphertext and tag; errors are `{"errors": […]}`.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "hvs.canary-of-a-token"


class Refused(Exception):
    def __init__(self, status: int, error: str) -> None:
        self.status = status
        super().__init__(error)


class Vault:
    """The engine at `/v1/team/transit/`, with the key `counterfoil`."""

    def __init__(self, *, certificate: Path | None = None, key: Path | None = None) -> None:
        self.versions = [os.urandom(32)]
        self.sealed = False
        self.namespace = ""
        self.answers: bytes | None = None
        """What is answered instead, whatever is asked."""
        self.asked: list[str] = []
        vault = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the name is http.server's
                body = self.rfile.read(int(self.headers["Content-Length"]))
                vault.asked.append(self.path)
                try:
                    status, said = 200, vault.answer(self.path, self.headers, json.loads(body))
                except Refused as exc:
                    status, said = exc.status, {"errors": [str(exc)]}
                raw = vault.answers if vault.answers is not None else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.spec = (
            f"vault:{scheme}://127.0.0.1:{self._server.server_port}/team/transit/counterfoil"
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def answer(self, path: str, headers, asked: dict[str, str]) -> dict[str, object]:
        if self.sealed:
            raise Refused(503, "Vault is sealed")
        if (
            headers["X-Vault-Token"] != TOKEN
            or (headers["X-Vault-Namespace"] or "") != self.namespace
        ):
            raise Refused(403, "permission denied")
        if not path.startswith("/v1/team/transit/"):
            raise Refused(404, "no handler for route")
        verb, _, name = path.removeprefix("/v1/team/transit/").partition("/")
        if name != "counterfoil":
            raise Refused(400, "encryption key not found")
        bound = base64.b64decode(asked.get("associated_data", ""))
        data = self.encrypt(asked, bound) if verb == "encrypt" else self.decrypt(asked, bound)
        return {
            "request_id": "8a4e0c0e-0b1c-4b57-8c6c-0f6b5d8c3a11",
            "lease_id": "",
            "renewable": False,
            "lease_duration": 0,
            "data": data,
            "wrap_info": None,
            "warnings": None,
            "auth": None,
        }

    def encrypt(self, asked: dict[str, str], bound: bytes) -> dict[str, object]:
        try:
            plaintext = base64.b64decode(asked["plaintext"], validate=True)
        except binascii.Error:
            raise Refused(400, "failed to base64-decode plaintext") from None
        nonce = os.urandom(12)
        sealed = nonce + AESGCM(self.versions[-1]).encrypt(nonce, plaintext, bound)
        number = len(self.versions)
        return {
            "ciphertext": f"vault:v{number}:{base64.b64encode(sealed).decode()}",
            "key_version": number,
        }

    def decrypt(self, asked: dict[str, str], bound: bytes) -> dict[str, object]:
        try:
            head, version, written = asked["ciphertext"].split(":")
            key = self.versions[int(version.removeprefix("v")) - 1]
            sealed = base64.b64decode(written, validate=True)
            plaintext = AESGCM(key).decrypt(sealed[:12], sealed[12:], bound)
        except (ValueError, IndexError):
            raise Refused(400, "invalid ciphertext: no prefix") from None
        except InvalidTag:
            raise Refused(400, "cipher: message authentication failed") from None
        if head != "vault":
            raise Refused(400, "invalid ciphertext: no prefix")
        return {"plaintext": base64.b64encode(plaintext).decode()}

    def rotate(self) -> None:
        """A new version of the key, as `POST …/keys/counterfoil/rotate` makes one."""
        self.versions.append(os.urandom(32))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
