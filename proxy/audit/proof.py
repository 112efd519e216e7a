"""A proof that one record is in the log, for somebody who has neither (C2SP tlog-proof).

c2sp.org/tlog-proof@v1
index 73894
gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=        hashes of the inclusion proof, from the leaf up
…

counterfoil/3                                       the checkpoint that it is proved in
…
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from proxy.audit.checkpoint import Checkpoint, NotACheckpoint, VerifierKey, opened
from proxy.audit.merkle import HASH_BYTES, included, inclusion_proof, leaf_hash
from proxy.audit.tiles import Folder, FolderNodes, Missing
from proxy.errors import LogUnavailable
from proxy.keys import is_signature

HEADER: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})\Z")
_MOST: Final = 63
"""Hashes of a proof in the largest tree that there can be."""


class NotProved(ValueError):
    """What is given as a proof proves nothing; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """The place of a record, the hashes that lead from it to the root, and the signed root."""

    index: int
    hashes: tuple[bytes, ...]
    note: bytes
    """The checkpoint with its signatures."""

    def __bytes__(self) -> bytes:
        lines = [HEADER, f"index {self.index}"]
        lines += [base64.b64encode(each).decode() for each in self.hashes]
        return ("\n".join(lines) + "\n\n").encode() + self.note

    @classmethod
    def parse(cls, data: bytes) -> Proof:
        """Read a proof; raises NotProved."""
        head, found, note = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
            hashes = tuple(base64.b64decode(line, validate=True) for line in lines[2:])
        except (UnicodeDecodeError, binascii.Error, ValueError):
            raise NotProved("it is no proof in the form c2sp.org/tlog-proof@v1") from None
        index = _INDEX.match(lines[1]) if len(lines) > 1 else None
        if not found or lines[0] != HEADER or index is None or len(hashes) > _MOST:
            raise NotProved("it is no proof in the form c2sp.org/tlog-proof@v1")
        if any(len(each) != HASH_BYTES for each in hashes):
            raise NotProved("a hash of it has not 32 bytes")
        return cls(index=int(index[1]), hashes=hashes, note=note)

    def check(self, entry: bytes, key: VerifierKey) -> Checkpoint:
        """The checkpoint, signed by `key`, in which `entry` is. Raises NotProved."""
        try:
            checkpoint = opened(self.note, key, is_signature)
        except NotACheckpoint as error:
            raise NotProved(f"its checkpoint is not valid: {error}") from None
        leaf = leaf_hash(entry)
        if not included(self.hashes, self.index, checkpoint.size, leaf, checkpoint.root):
            raise NotProved(f"the record is not entry {self.index} of {checkpoint.origin}")
        return checkpoint


def checkpoint_of(folder: Folder) -> bytes:
    """A log's newest checkpoint; raises LogUnavailable where there is none."""
    try:
        return folder.checkpoint()
    except Missing as error:
        raise LogUnavailable(f"{folder.path} is not whole: {error}") from None


def size_in(note: bytes) -> int:
    """How many entries a checkpoint says that there are; raises LogUnavailable."""
    try:
        return int(note.split(b"\n")[1])
    except (ValueError, IndexError):
        raise LogUnavailable("a published checkpoint is damaged") from None


def proved(folder: Folder, note: bytes, index: int) -> Proof:
    """The proof that an entry is in the log of which `note` is a checkpoint; raises LogUnavailable."""
    size = size_in(note)
    if index >= size:
        raise LogUnavailable("no checkpoint covers the record yet: try again in a second")
    try:
        hashes = inclusion_proof(index, size, FolderNodes(folder, size))
    except (Missing, ValueError) as error:
        raise LogUnavailable(f"{folder.path} is not whole: {error}") from None
    return Proof(index=index, hashes=tuple(hashes), note=note)
