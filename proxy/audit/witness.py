"""A witness: it remembers how far each log had come, and signs what goes on from there (C2SP tlog-witness).

It is run by somebody who is not the log's operator, on a machine that the operator cannot write to. What
it has signed cannot be taken back: history that is rewritten, and signed again with the log's own key,
has no signature of the witness, and contradicts the checkpoint that it keeps.

    POST /add-checkpoint      old 20852014            what the witness has, as the log believes
                              PlRNCrwHpqhGrupue0L7…   consistency proof, a hash a line
                                                      (an empty line, and the signed checkpoint)

    POST /add-log             base64 of a registry's entry, an empty line, and a tlog-proof that the entry is
                              in the checkpoint of the registry which the witness has signed last

The second is ours: logs are begun at each start, and the registry says by which keys they are signed. A
witness is told the registry's key alone. Bytes in, status and bytes out; what it remembers is one file a
log, durable before the answer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple

from proxy import durable
from proxy.audit import registry
from proxy.audit.checkpoint import NotACheckpoint, Note, VerifierKey, cosignature
from proxy.audit.merkle import HASH_BYTES, consistent
from proxy.audit.proof import NotProved, Proof
from proxy.keys import is_signature

MOST_BODY: Final = 256 << 10
SIZE_TYPE: Final = "text/x.tlog.size"
_OLD: Final = re.compile(rb"old (0|[1-9][0-9]{0,18})\Z")
_MOST_HASHES: Final = 63


class Answer(NamedTuple):
    """An HTTP status and a body."""

    status: int
    body: bytes = b""
    type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pushed:
    """What a log gives to a witness: the size that the witness has, the proof, the checkpoint."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes

    def __bytes__(self) -> bytes:
        lines = [f"old {self.old}", *(base64.b64encode(each).decode() for each in self.proof)]
        return ("\n".join(lines) + "\n\n").encode() + self.note

    @classmethod
    def parse(cls, body: bytes) -> Pushed:
        """Read what was given; raises ValueError."""
        head, found, note = body.partition(b"\n\n")
        first, *lines = head.split(b"\n")
        old = _OLD.match(first)
        if not found or old is None or len(lines) > _MOST_HASHES:
            raise ValueError("it does not begin with the old size and a proof")
        proof = tuple(base64.b64decode(line, validate=True) for line in lines)
        if any(len(each) != HASH_BYTES for each in proof):
            raise ValueError("a hash of the proof has not 32 bytes")
        return cls(old=int(old[1]), proof=proof, note=note)


class Witness:
    """Knows one registry, and the logs that it names. May be asked from several threads."""

    def __init__(
        self,
        folder: Path,
        registry_key: VerifierKey,
        key: VerifierKey,
        sign: Callable[[bytes], bytes],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Remember in `folder`, which is there. Raises OSError, or ValueError where that is not ours."""
        self.key = key
        self._folder = folder
        self._sign = sign
        self._clock = clock
        self._lock = Lock()
        self._keys = {registry_key.name: registry_key}
        self._registry = registry_key.name
        self._seen: dict[str, Note] = {}
        for path in sorted(folder.glob("*.vkey")):
            known = VerifierKey.parse(path.read_text())
            self._keys[known.name] = known
        for path in sorted(folder.glob("*.checkpoint")):
            note = Note.parse(path.read_bytes())
            self._seen[note.checkpoint.origin] = note

    def seen(self, origin: str) -> int:
        """How many entries of a log it has signed."""
        note = self._seen.get(origin)
        return note.checkpoint.size if note else 0

    def add_checkpoint(self, body: bytes) -> Answer:
        """Sign a checkpoint that goes on from the last one; raises OSError."""
        try:
            pushed = Pushed.parse(body)
            note = Note.parse(pushed.note)
        except (ValueError, binascii.Error) as error:
            return Answer(400, f"{error}\n".encode())
        new = note.checkpoint
        key = self._keys.get(new.origin)
        if key is None:
            return Answer(404, b"the log is not known here\n")
        try:
            if key.name not in note.signed_by([key], is_signature):
                return Answer(403, b"the checkpoint is not signed by the log's key\n")
        except NotACheckpoint as error:
            return Answer(403, f"{error}\n".encode())
        if pushed.old > new.size:
            return Answer(400, b"the checkpoint is older than the old size\n")
        with self._lock:
            last = self._seen.get(new.origin)
            size = last.checkpoint.size if last else 0
            if pushed.old != size:
                return Answer(409, f"{size}\n".encode(), SIZE_TYPE)
            if last is not None and size == new.size and last.checkpoint.root != new.root:
                return Answer(409, f"{size}\n".encode(), SIZE_TYPE)
            if not _goes_on(pushed, last, note):
                return Answer(
                    422, b"the proof does not lead from the last checkpoint to this one\n"
                )
            line = cosignature(note, self.key, self._sign, now=int(self._clock()))
            self._keep(new.origin, "checkpoint", note.kept([key]) + line)
            self._seen[new.origin] = note
        return Answer(200, line)

    def add_log(self, body: bytes) -> Answer:
        """Know the key of a log that the registry names; raises OSError."""
        written, _, proof = body.partition(b"\n\n")
        registered = self._keys[self._registry]
        last = self._seen.get(self._registry)
        try:
            entry = base64.b64decode(written, validate=True)
            read = Proof.parse(proof)
            checkpoint = read.check(entry, registered)
            said = registry.decode(entry)
        except (NotProved, binascii.Error, ValueError) as error:
            return Answer(400, f"{error}\n".encode())
        if last is None or checkpoint != last.checkpoint:
            size = last.checkpoint.size if last else 0
            return Answer(409, f"{size}\n".encode(), SIZE_TYPE)
        if not isinstance(said, registry.Opened):
            return Answer(400, b"the entry opens no log\n")
        try:
            key = VerifierKey.parse(said.key)
        except ValueError as error:
            return Answer(400, f"{error}\n".encode())
        with self._lock:
            if key.name != said.log or self._keys.get(key.name, key) != key:
                return Answer(409, b"the log has another key\n")
            self._keep(key.name, "vkey", f"{key}\n".encode())
            self._keys[key.name] = key
        return Answer(200)

    def _keep(self, origin: str, kind: str, data: bytes) -> None:
        """One file a log: its name is what is left of the origin, and a digest that tells origins apart."""
        plain = re.sub(r"[^a-z0-9.-]", "-", origin.lower())[:64]
        digest = hashlib.sha256(origin.encode()).hexdigest()[:8]
        durable.write(self._folder / f"{plain}-{digest}.{kind}", data)


def _goes_on(pushed: Pushed, last: Note | None, note: Note) -> bool:
    if last is None:
        return not pushed.proof
    old, new = last.checkpoint, note.checkpoint
    return consistent(pushed.proof, old.size, new.size, old.root, new.root)
