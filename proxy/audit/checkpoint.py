"""Signed statements of a log's size and root: C2SP tlog-checkpoint in a C2SP signed-note.

    counterfoil/3                                    origin: the log's name
    20852163                                         size
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=     root hash, base64

    — counterfoil/3 Az3grlgtzPICa5OS8npVmf1Myq/5I…   signature: base64(key id ‖ Ed25519 over the text)

A key is known by its name and its id, the first four bytes of SHA-256(name ‖ 0A ‖ kind ‖ public key);
a verifier key is written `name+id+base64(kind ‖ public key)`. The kind is 01 for a log, which signs the
text, and 04 for a witness, which signs it with the time at which it saw that it goes on from all that it
had seen before (C2SP tlog-cosignature). Pure: who signs gives a function.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from proxy.audit.merkle import HASH_BYTES

LOG, WITNESS = b"\x01", b"\x04"
"""Kinds of keys, all of them Ed25519."""
_TIME_BYTES: Final = 8
_LONGEST: Final = 1 << 20
_MOST_SIGNATURES: Final = 100
_NAME: Final = re.compile(r"[^\s+\x00-\x1f\x7f]{1,255}\Z")
_SIZE: Final = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z")
_SIGNATURE: Final = re.compile(r"— (\S+) (\S+)\Z")

Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, signature, message) -> whether it is the key's signature (Ed25519, RFC 8032)."""


class NotACheckpoint(ValueError):
    """A text is no checkpoint, or not signed by whom it should be; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifierKey:
    """A public key and the name that it signs as."""

    name: str
    public: bytes
    kind: bytes = LOG

    def __post_init__(self) -> None:
        if not _NAME.match(self.name) or len(self.public) != 32 or self.kind not in (LOG, WITNESS):
            raise ValueError("a verifier key has a name without blanks and `+`, and 32 bytes")

    @property
    def id(self) -> bytes:
        """Four bytes by which signatures name the key."""
        named = self.name.encode() + b"\n" + self.kind + self.public
        return hashlib.sha256(named).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_base64(self.kind + self.public)}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """The key that `text` writes; raises ValueError."""
        name, _, rest = text.strip().partition("+")
        id_, _, written = rest.partition("+")
        data = _bytes(written)
        if data is None or data[:1] not in (LOG, WITNESS) or len(data) != 33:
            raise ValueError("a verifier key is written `name+id+base64`, for Ed25519")
        key = cls(name=name, public=data[1:], kind=data[:1])
        if key.id.hex() != id_:
            raise ValueError("the id of the verifier key is not that of its name and key")
        return key


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """What is signed: a log's name, its size and its root."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"

    def signed(self, key: VerifierKey, sign: Callable[[bytes], bytes]) -> bytes:
        """The checkpoint with the key's signature; `sign` is Ed25519 over bytes."""
        text = self.text.encode()
        signature = _base64(key.id + sign(text))
        return text + f"\n— {key.name} {signature}\n".encode()


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A signed checkpoint as it was read: its text, and who claims to have signed it."""

    checkpoint: Checkpoint
    text: bytes
    signatures: tuple[tuple[str, bytes, bytes], ...]
    """Name, key id, signature."""

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """Read a note; nothing is verified yet. Raises NotACheckpoint."""
        try:
            whole = data.decode()
        except UnicodeDecodeError:
            raise NotACheckpoint("it is not UTF-8") from None
        text, found, lines = whole.rpartition("\n\n")
        if not found or len(data) > _LONGEST or not whole.endswith("\n"):
            raise NotACheckpoint("it has no signature")
        signatures = []
        for line in lines[:-1].split("\n"):
            matched = _SIGNATURE.match(line)
            signature = None if matched is None else _bytes(matched[2])
            if matched is None or signature is None or len(signature) < 5:
                raise NotACheckpoint("a line of signature is none")
            signatures.append((matched[1], signature[:4], signature[4:]))
        if len(signatures) > _MOST_SIGNATURES:
            raise NotACheckpoint("it has too many signatures")
        return cls(
            checkpoint=_parsed(text + "\n"),
            text=(text + "\n").encode(),
            signatures=tuple(signatures),
        )

    def kept(self, keys: Iterable[VerifierKey]) -> bytes:
        """The note with the signatures of these keys alone: anybody can add a line to one."""
        known = {(key.name, key.id) for key in keys}
        lines = {
            (name, id_): f"— {name} {_base64(id_ + signature)}\n"
            for name, id_, signature in self.signatures
            if (name, id_) in known
        }
        return self.text + ("\n" + "".join(lines.values())).encode()

    def signed_by(self, keys: Iterable[VerifierKey], verify: Verify) -> frozenset[str]:
        """Which of the keys, by name, have signed it. Raises NotACheckpoint for a forged signature."""
        known = {(key.name, key.id): key for key in keys}
        names = set()
        for name, id_, signature in self.signatures:
            key = known.get((name, id_))
            if key is None:
                continue
            message, given = self.text, signature
            if key.kind == WITNESS:
                time, given = signature[:_TIME_BYTES], signature[_TIME_BYTES:]
                message = _cosigned(self.text, int.from_bytes(time, "big"))
            if not verify(key.public, given, message):
                raise NotACheckpoint(f"the signature of {name} is not over this text")
            names.add(name)
        return frozenset(names)


def cosignature(note: Note, key: VerifierKey, sign: Callable[[bytes], bytes], *, now: int) -> bytes:
    """The line with which a witness signs a checkpoint; `now` in seconds since the epoch."""
    signature = now.to_bytes(_TIME_BYTES, "big") + sign(_cosigned(note.text, now))
    return f"— {key.name} {_base64(key.id + signature)}\n".encode()


def _cosigned(text: bytes, now: int) -> bytes:
    return f"cosignature/v1\ntime {now}\n".encode() + text


def opened(data: bytes, key: VerifierKey, verify: Verify) -> Checkpoint:
    """The checkpoint of the log that is named as `key` is, signed by it. Raises NotACheckpoint."""
    note = Note.parse(data)
    if note.checkpoint.origin != key.name:
        raise NotACheckpoint(f"it is one of another log than {key.name}")
    if key.name not in note.signed_by([key], verify):
        raise NotACheckpoint(f"it is not signed by the key {key.id.hex()} of {key.name}")
    return note.checkpoint


def _parsed(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) < 4 or not lines[0] or not _SIZE.match(lines[1]):
        raise NotACheckpoint("it does not begin with origin, size and root")
    root = _bytes(lines[2])
    if root is None or len(root) != HASH_BYTES:
        raise NotACheckpoint("its root is no hash")
    if any(lines[3:]):  # no extension is known, and none is signed unread
        raise NotACheckpoint("it has lines after its root")
    return Checkpoint(origin=lines[0], size=int(lines[1]), root=root)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes | None:
    """What is written in canonical base64; None for any other text."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _base64(data) == text else None
