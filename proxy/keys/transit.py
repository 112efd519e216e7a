"""The key-encryption key as a key of a transit engine: HashiCorp Vault's or OpenBao's, asked over HTTPS.

    vault:https://vault.example.com:8200/transit/counterfoil      the engine's mount, then the key's name

The engine seals and opens the key of the keyring file (`POST /v1/MOUNT/encrypt/NAME`, `…/decrypt/NAME`;
Vault's HTTP API for secrets engines, "Transit"); its own key never leaves it, and no master key goes there.
It is asked where the file is read or written, not where a request is answered. The key's type is one with
associated data (`aes256-gcm96`, the default). What the token needs, and should not have more than:

    path "transit/encrypt/counterfoil" { capabilities = ["update"] }
    path "transit/decrypt/counterfoil" { capabilities = ["update"] }

With `create` a mistyped name would make a new key. From the environment, each as VAULT_… or BAO_…:

    VAULT_TOKEN         the token, or
    VAULT_TOKEN_FILE    a file of mode 0600 that holds it, read each time: an agent may renew it
    VAULT_CACERT        PEM file of the authority that the server's certificate is from; else the system's
    VAULT_NAMESPACE     the namespace, where there are any
"""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from proxy.errors import KeyringError
from proxy.keys.primitives import LABEL, Unpicklable, prefixed
from proxy.keys.private import read_private

_SECONDS: Final = 5.0
"""To connect, and between two reads."""
_MOST: Final = 1 << 16
_PATH: Final = re.compile(r"/((?:\w[\w.~-]*/)+)(\w[\w.~-]*)\Z", re.ASCII)
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_BOUND: Final = base64.b64encode(prefixed(LABEL.encode(), b"keyring-file")).decode()
_WHY: Final = {
    400: "it does not take what it is asked (another key, or an altered text?)",
    403: "the token is not allowed to",
    404: "there is no transit engine of that name",
    503: "it is sealed or down",
}


class _Data(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered, of which one member is asked for."""

    ciphertext: str = ""
    plaintext: str = ""


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    data: _Data


class TransitKek(Unpicklable):
    """A key that stays in its engine."""

    __slots__ = ("_environment", "_mount", "_name", "_url")

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        """`url` is what follows `vault:`; raises KeyringError where it is none, or not over TLS."""
        try:
            parts = urlsplit(url)
            usable = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
            usable &= url.isascii() and url.isprintable()
        except ValueError:
            parts, usable = SplitResult("", "", "", "", ""), False
        path = _PATH.match(parts.path)
        secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
        if path is None or not usable or not secure or parts.query or parts.fragment:
            raise KeyringError(
                "a key in a Vault is named as `vault:https://HOST:PORT/MOUNT/NAME`"
                " (http to this machine alone)"
            )
        self._url = parts
        self._mount, self._name = path[1], path[2]
        self._environment = environment

    def wrap(self, key: bytes) -> str:
        """The key, sealed by the engine; raises KeyringError."""
        asked = {"plaintext": base64.b64encode(key).decode(), "associated_data": _BOUND}
        wrapped = self._ask("encrypt", asked).ciphertext
        if not wrapped.isprintable() or not wrapped.startswith("vault:"):
            raise KeyringError(f"{self._place} does not answer as a transit engine does")
        return wrapped

    def unwrap(self, wrapped: str) -> bytes:
        """The key; raises KeyringError."""
        answer = self._ask("decrypt", {"ciphertext": wrapped, "associated_data": _BOUND})
        try:
            return base64.b64decode(answer.plaintext, validate=True)
        except ValueError:
            raise KeyringError(f"{self._place} does not answer as a transit engine does") from None

    @property
    def _place(self) -> str:
        return f"{self._url.scheme}://{self._url.netloc}{self._url.path}"

    def _ask(self, verb: str, asked: Mapping[str, str]) -> _Data:
        """What the engine answers; nothing of that, of the token or of `asked` is in an error."""
        connection = self._connection()
        headers = {
            "Content-Type": "application/json",
            "X-Vault-Request": "true",
            "X-Vault-Token": self._token(),
        }
        namespace = self._of("NAMESPACE")
        if namespace:
            headers["X-Vault-Namespace"] = namespace
        try:
            path = f"/v1/{self._mount}{verb}/{self._name}"
            connection.request("POST", path, body=msgspec.json.encode(asked), headers=headers)
            with closing(connection.getresponse()) as response:
                said, status = response.read(_MOST), response.status
        except (OSError, HTTPException, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) and exc.strerror else type(exc).__name__
            raise KeyringError(f"{self._place} gives no answer: {why}") from None
        finally:
            connection.close()
        if status != 200:
            why = _WHY.get(status, "see its own log")
            raise KeyringError(f"{self._place} refuses to {verb} ({status}): {why}")
        try:
            return msgspec.json.decode(said, type=_Answer).data
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise KeyringError(f"{self._place} does not answer as a transit engine does") from None

    def _connection(self) -> HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "http":
            return HTTPConnection(host, port, timeout=_SECONDS)
        file = self._of("CACERT") or None
        try:
            context = ssl.create_default_context(cafile=file)
        except (OSError, ssl.SSLError):
            raise KeyringError(
                f"the certificates in {file} cannot be read (VAULT_CACERT)"
            ) from None
        return HTTPSConnection(host, port, timeout=_SECONDS, context=context)

    def _token(self) -> str:
        token, file = self._of("TOKEN"), self._of("TOKEN_FILE")
        if not token and file:
            token = read_private(Path(file), "token file").decode("latin-1").strip()
        if not token:
            raise KeyringError(
                "there is no token for the Vault: set VAULT_TOKEN or VAULT_TOKEN_FILE"
            )
        if not token.isascii() or not token.isprintable():
            raise KeyringError("the Vault's token is none: it has characters that no token has")
        return token

    def _of(self, name: str) -> str:
        return self._environment.get(f"VAULT_{name}") or self._environment.get(f"BAO_{name}") or ""
