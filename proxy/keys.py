"""The keyring: master keys with ids and states, and every key that is derived from them.

Words and standards:

    master key     32 random bytes with an id and a state; one is `active`, `retired` ones still
                   open what was sealed under them
    keyring file   JSON; each master key is sealed under the key-encryption key (KEK) with
                   AES-256-GCM-SIV (RFC 8452) and a random nonce; associated data bind the rest of
                   its entry
    derived key    HKDF-SHA-256 (RFC 5869) of a master key; one purpose each, never used for another
    Mac            HMAC-SHA-256 (RFC 2104, RFC 4231) under a derived key
    Aead           AES-256-GCM-SIV under a derived key, nonces drawn here and never by a caller

A keyring file:

    {"version": 1, "keys": [{"id": "5f3a90c1", "created": "2026-11-23T22:58:40Z",
                             "state": "active", "sealed": "…"}]}

AES-GCM-SIV rather than AES-GCM: one key may seal more than 2**32 cells with random nonces, and a
repeated nonce would tell no more than that two plaintexts with equal associated data are equal.

No key appears in a repr, an error or a pickle. No other module uses cryptography's ciphers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from operator import add
from pathlib import Path
from typing import Final, Literal, NoReturn

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from proxy.errors import KeyringError, ValueRefused

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
_LABEL: Final = "counterfoil/v1"
_FILE_LIMIT: Final = 1 << 20
_CACHED_KEYS: Final = 4096
_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}\Z")
_MADE_ONCE: Final = (
    " (docs/configuration.md has the commands that make a keyring and its key, once)"
)
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}\Z")

State = Literal["active", "retired"]


def prefixed(*parts: bytes) -> bytes:
    """The parts as one byte string that tells them apart: each behind its length (32 bits)."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def text_bytes(text: str) -> bytes:
    """UTF-8; a lone surrogate, which no valid document holds, is encoded too, not raised on."""
    return text.encode("utf-8", "surrogatepass")


class _Unpicklable:
    """Secrets stay in the process that opened them."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} holds keys and is not pickled or copied")


@dataclass(frozen=True, kw_only=True)
class MasterKey(_Unpicklable):
    """One master key of a keyring."""

    id: str
    """Lower-case letters, digits and dashes, at most 32: it stands in ciphertexts and URLs."""
    created: str
    """RFC 3339, UTC."""
    state: State
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not _ID.match(self.id):
            raise KeyringError("a key id is at most 32 lower-case letters, digits and dashes")
        if len(self.secret) != KEY_BYTES:
            raise KeyringError("a master key is 32 bytes")

    @classmethod
    def generate(cls) -> MasterKey:
        """A fresh active key."""
        return cls(
            id=secrets.token_hex(4),
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            state="active",
            secret=os.urandom(KEY_BYTES),
        )


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key as it stands in the file."""

    id: str
    created: str
    state: State
    sealed: str

    def bound(self) -> bytes:
        """The associated data: all of the entry but what is sealed."""
        return prefixed(*map(text_bytes, (_LABEL, "keyring", self.id, self.created, self.state)))


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A keyring file."""

    version: Literal[1]
    keys: tuple[_Entry, ...]


class Mac(_Unpicklable):
    """HMAC-SHA-256 under one key; the key schedule is done once."""

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes) -> None:
        self._keyed = hmac.new(key, digestmod=hashlib.sha256)

    def digest(self, data: bytes) -> bytes:
        """The 32 bytes of the MAC over `data`."""
        running = self._keyed.copy()
        running.update(data)
        return running.digest()

    def hexdigest(self, data: bytes) -> str:
        """The MAC over `data` as 64 hex digits."""
        running = self._keyed.copy()
        running.update(data)
        return running.hexdigest()

    def start(self) -> hmac.HMAC:
        """A running MAC for data that comes in parts: `update(part)`…, then `hexdigest()`."""
        return self._keyed.copy()


class Aead(_Unpicklable):
    """AES-256-GCM-SIV under one derived key; sealed = nonce (12) ‖ ciphertext ‖ tag (16)."""

    __slots__ = ("_cipher", "key_id")

    def __init__(self, key: bytes, key_id: str) -> None:
        self.key_id = key_id
        self._cipher = AESGCMSIV(key)

    def seal(self, plaintexts: Sequence[bytes], associated: Sequence[bytes]) -> list[bytes]:
        """Seal each plaintext with its associated data.

        The nonces come from one draw of the system's random source.
        """
        if len(plaintexts) != len(associated):
            raise ValueError("each plaintext has its associated data")
        drawn = os.urandom(NONCE_BYTES * len(plaintexts))
        nonces = [drawn[at : at + NONCE_BYTES] for at in range(0, len(drawn), NONCE_BYTES)]
        sealed = map(self._cipher.encrypt, nonces, plaintexts, associated)
        return list(map(add, nonces, sealed))

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """The plaintext; raises ValueRefused where one bit of either, or the key, is another."""
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            raise ValueRefused("the sealed value is cut short")
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
        except InvalidTag:
            raise ValueRefused("the sealed value was altered or moved") from None


class Keyring(_Unpicklable):
    """Master keys by id, one of them active; derives every other key."""

    __slots__ = ("_derived", "_keys", "_macs", "current")

    def __init__(self, keys: Iterable[MasterKey]) -> None:
        """Raises KeyringError unless ids differ and exactly one key is active."""
        listed = tuple(keys)
        self._keys = {key.id: key for key in listed}
        if len(self._keys) != len(listed):
            raise KeyringError("two keys of the keyring have one id")
        active = [key.id for key in listed if key.state == "active"]
        if len(active) != 1:
            raise KeyringError("a keyring has exactly one active key")
        self.current: str = active[0]
        """The id of the active key, under which everything new is made."""
        self._derived = lru_cache(maxsize=_CACHED_KEYS)(self._hkdf)
        self._macs = lru_cache(maxsize=_CACHED_KEYS)(self._mac)

    def __repr__(self) -> str:
        return f"<Keyring {len(self._keys)} keys, current {self.current}>"

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all keys, retired ones too."""
        return tuple(self._keys)

    # ── files ──

    @classmethod
    def generate(cls) -> Keyring:
        """A keyring with one fresh key, in memory."""
        return cls([MasterKey.generate()])

    @classmethod
    def create(cls, path: Path, kek: bytes) -> Keyring:
        """A fresh keyring, written to `path`, which must not exist yet."""
        keyring = cls.generate()
        keyring.save(path, kek)
        return keyring

    @classmethod
    def open(cls, path: Path, kek: bytes) -> Keyring:
        """The keyring of the file at `path`.

        Raises KeyringError where the file is open to others, is no keyring, or is sealed under
        another KEK.
        """
        cipher = AESGCMSIV(_checked(kek))
        try:
            file = msgspec.json.decode(_read_private(path, "keyring"), type=_File)
        except msgspec.MsgspecError:
            raise KeyringError(f"the keyring {path} is not a keyring file") from None
        keys = []
        for entry in file.keys:
            try:
                sealed = base64.b64decode(entry.sealed, validate=True)
                secret = cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], entry.bound())
            except (InvalidTag, ValueError):
                raise KeyringError(f"the keyring {path} does not open under this key") from None
            keys.append(
                MasterKey(id=entry.id, created=entry.created, state=entry.state, secret=secret)
            )
        return cls(keys)

    def save(self, path: Path, kek: bytes) -> None:
        """Write all keys, sealed under `kek`, to `path`: all of it or nothing, mode 0600.

        Raises KeyringError where `path` exists: a keyring that is overwritten is lost.
        """
        cipher = AESGCMSIV(_checked(kek))
        entries = []
        for key in self._keys.values():
            entry = _Entry(id=key.id, created=key.created, state=key.state, sealed="")
            nonce = os.urandom(NONCE_BYTES)
            sealed = nonce + cipher.encrypt(nonce, key.secret, entry.bound())
            entries.append(msgspec.structs.replace(entry, sealed=base64.b64encode(sealed).decode()))
        text = msgspec.json.encode(_File(version=1, keys=tuple(entries)))
        _write_new(path, msgspec.json.format(text, indent=2) + b"\n")

    # ── derived keys ──

    def derive(self, purpose: str, *context: str, key_id: str | None = None) -> bytes:
        """32 bytes for `purpose` in `context`, from the key `key_id` (the active one if None).

        Different purposes or contexts give keys that tell nothing of each other. Raises
        KeyringError where there is no such key.
        """
        return self._derived(key_id or self.current, purpose, *context)

    def mac(self, purpose: str, *context: str, key_id: str | None = None) -> Mac:
        """HMAC-SHA-256 under the key derived for `purpose` in `context`."""
        return self._macs(key_id or self.current, purpose, *context)

    def opaque(self, principal: str) -> str:
        """The id that stands for a principal in the access log."""
        return self.mac("audit-subject").hexdigest(principal.encode())[:32]

    def aead(self, purpose: str, *context: str, key_id: str | None = None) -> Aead:
        """AES-256-GCM-SIV under the key derived for `purpose` in `context`."""
        key = self.derive(purpose, *context, key_id=key_id)
        return Aead(key, key_id or self.current)

    def _mac(self, key_id: str, *labels: str) -> Mac:
        return Mac(self._derived(key_id, *labels))

    def _hkdf(self, key_id: str, *labels: str) -> bytes:
        master = self._keys.get(key_id)
        if master is None:
            raise KeyringError("the keyring has no such key")
        info = prefixed(*map(text_bytes, (_LABEL, *labels)))
        return hkdf(master.secret, salt=b"", info=info, length=KEY_BYTES)


def hkdf(secret: bytes, *, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA-256, extract and expand (RFC 5869 §2)."""
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)


def kek_from(spec: str, environment: Mapping[str, str]) -> bytes:
    """The key-encryption key that `env:NAME` or `file:PATH` names: 32 bytes as base64 or hex.

    Raises KeyringError; its text names the place, never what stands there.
    """
    kind, _, place = spec.partition(":")
    match kind:
        case "env" if place:
            written = environment.get(place)
            if written is None:
                raise KeyringError(f"the environment variable {place} is not set{_MADE_ONCE}")
        case "file" if place:
            written = _read_private(Path(place), "key file").decode("ascii", "replace")
        case _:
            raise KeyringError("a key-encryption key is named as `env:NAME` or `file:PATH`")
    written = written.strip()
    if _HEX.match(written):
        return bytes.fromhex(written)
    try:
        key = base64.b64decode(written.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyringError(f"{spec} does not hold 32 bytes as base64 or hex")
    return key


def _checked(kek: bytes) -> bytes:
    if len(kek) != KEY_BYTES:
        raise KeyringError("a key-encryption key is 32 bytes")
    return kek


def _read_private(path: Path, what: str) -> bytes:
    """The bytes of a regular file that nobody but its owner may touch.

    Checked on the open file, so that the file which is checked is the one that is read.
    """
    try:
        # Non-blocking: a FIFO in the file's place must not hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        hint = _MADE_ONCE if isinstance(error, FileNotFoundError) else ""
        raise KeyringError(f"the {what} {path} cannot be read: {error.strerror}{hint}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyringError(f"the {what} {path} is not a regular file")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyringError(f"the {what} {path} is open to others: set its mode to 0600")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(_FILE_LIMIT + 1)
    finally:
        os.close(descriptor)
    if len(content) > _FILE_LIMIT:
        raise KeyringError(f"the {what} {path} is too large")
    return content


def _write_new(path: Path, content: bytes) -> None:
    """A new file of mode 0600, durable before it has its name."""
    try:
        descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise KeyringError(f"the keyring {path} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(scratch, path)  # unlike a rename, a link never replaces what is there
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise KeyringError(f"the keyring {path} exists already; it is never overwritten") from None
    except OSError as error:
        raise KeyringError(f"the keyring {path} cannot be written: {error.strerror}") from None
    finally:
        Path(scratch).unlink()
