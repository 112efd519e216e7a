"""Master keys and their states: which one seals, which one names, and what may become of each.

    active    seals, names, or both: exactly one key does each
    standby   opens what it sealed, and may be made active again
    retired   opens what it sealed, and is never active again

A key that *seals* makes ciphertexts, which say its id: so another one may take its place at any time.
A key that *names* makes stand-ins that must stay what they are: pseudonyms, tokens, validators, the
opaque ids and the digests of the access log. They are others under another key.

A keyring never changes: each verb gives another one. No key ever goes.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Final, Literal

from proxy.errors import KeyringError
from proxy.keys.primitives import (
    KEY_BYTES,
    LABEL,
    Aead,
    Mac,
    Signer,
    Unpicklable,
    hkdf,
    prefixed,
    text_bytes,
)

_CACHED_KEYS: Final = 4096
_SUBJECTS: Final = 8192
"""How many subjects' opaque ids are remembered."""
_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}\Z")

State = Literal["active", "standby", "retired"]


@dataclass(frozen=True, kw_only=True)
class MasterKey(Unpicklable):
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
    def generate(cls, taken: Container[str] = ()) -> MasterKey:
        """A fresh active key, of an id that is not `taken`."""
        while (id_ := secrets.token_hex(4)) in taken:
            pass
        return cls(
            id=id_,
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            state="active",
            secret=os.urandom(KEY_BYTES),
        )


class Keyring(Unpicklable):
    """Master keys by id, of which one seals and one names; derives every other key."""

    __slots__ = ("_derived", "_keys", "_macs", "_opaque", "naming", "sealing")

    def __init__(self, keys: Iterable[MasterKey], *, sealing: str = "", naming: str = "") -> None:
        """`sealing`, `naming`: the ids of the keys that do; left out, the one active key.

        Raises KeyringError unless ids differ and the active keys are just those two, or one.
        """
        listed = tuple(keys)
        self._keys: Mapping[str, MasterKey] = {key.id: key for key in listed}
        if len(self._keys) != len(listed):
            raise KeyringError("two keys of the keyring have one id")
        active = [key.id for key in listed if key.state == "active"]
        only = active[0] if len(active) == 1 else ""
        self.sealing: str = sealing or only
        """The id of the key under which values are sealed: those ciphertexts name it."""
        self.naming: str = naming or only
        """The id of the key under which stand-ins are made that must stay what they are."""
        if {self.sealing, self.naming} != set(active):
            raise KeyringError(
                "a keyring has one active key that seals and one that names, or one for both"
            )
        # The caches hold no reference to the keyring: with its last one the keys go, at once.
        self._derived = lru_cache(_CACHED_KEYS)(partial(_derive, self._keys))
        self._macs = lru_cache(_CACHED_KEYS)(partial(_mac, self._derived))
        self._opaque = lru_cache(_SUBJECTS)(partial(_opaque, self._macs, self.naming))

    def __repr__(self) -> str:
        return f"<Keyring {len(self._keys)} keys, sealing {self.sealing}, naming {self.naming}>"

    @classmethod
    def generate(cls) -> Keyring:
        """A keyring with one fresh key, in memory."""
        return cls([MasterKey.generate()])

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all keys, retired ones too, the oldest first."""
        return tuple(self._keys)

    @property
    def keys(self) -> tuple[MasterKey, ...]:
        """All keys, the oldest first."""
        return tuple(self._keys.values())

    # ── other keyrings ──

    def rotated(self, *, names: bool = False) -> Keyring:
        """With a fresh key that seals, and names where `names` says so."""
        fresh = MasterKey.generate(self._keys)
        return _settled([*self.keys, fresh], fresh.id, fresh.id if names else self.naming)

    def turned_to(self, key_id: str, *, names: bool = False) -> Keyring:
        """With that key, which is there already, as the one that seals; with `names` it names too.

        Raises KeyringError where there is none, it is retired, or it is so already.
        """
        key, naming = self._key(key_id), key_id if names else self.naming
        if key.state == "retired":
            raise KeyringError(
                f"key {key_id} is retired: it opens what it sealed, and is never active again"
                " (choose one on standby, or rotate to a new one)"
            )
        if (key_id, naming) == (self.sealing, self.naming):
            raise KeyringError(f"key {key_id} {self.does(key_id)} already")
        return _settled(self.keys, key_id, naming)

    def retired(self, key_id: str) -> Keyring:
        """With that key, which is on standby, retired.

        Raises KeyringError where there is none, it is active, or it is retired already.
        """
        key = self._key(key_id)
        if key.state == "retired":
            raise KeyringError(f"key {key_id} is retired already")
        if key.state == "active":
            way = "rotate --names" if key_id == self.naming else "rotate"
            raise KeyringError(
                f"key {key_id} {self.does(key_id)}, and what is active is not retired"
                f" (`counterfoil keys {way}` puts another one in its place)"
            )
        keys = [replace(each, state="retired") if each is key else each for each in self.keys]
        return Keyring(keys, sealing=self.sealing, naming=self.naming)

    def does(self, key_id: str) -> str:
        """What the key does: `seals and names`, `seals`, `names`, or nothing ('')."""
        does = [
            word for word, id_ in (("seals", self.sealing), ("names", self.naming)) if id_ == key_id
        ]
        return " and ".join(does)

    def lost(self, before: Keyring) -> tuple[str, ...]:
        """The ids of keys of `before` that are gone here, are other keys, or no longer retired."""
        return tuple(
            key.id
            for key in before.keys
            if (here := self._keys.get(key.id)) is None
            or not hmac.compare_digest(here.secret, key.secret)
            or (key.state == "retired" and here.state != "retired")
        )

    def _key(self, key_id: str) -> MasterKey:
        key = self._keys.get(key_id)
        if key is None:  # what was asked for is not repeated: it may be anything
            raise KeyringError(f"the keyring has no such key (it has {', '.join(self._keys)})")
        return key

    # ── derived keys ──

    def derive(self, purpose: str, *context: str, key_id: str | None = None) -> bytes:
        """32 bytes for `purpose` in `context`, from the key `key_id` (the naming one if None).

        Different purposes or contexts give keys that tell nothing of each other. Raises
        KeyringError where there is no such key.
        """
        return self._derived(key_id or self.naming, purpose, *context)

    def mac(self, purpose: str, *context: str, key_id: str | None = None) -> Mac:
        """HMAC-SHA-256 under the key derived for `purpose` in `context`, from the naming key if None."""
        return self._macs(key_id or self.naming, purpose, *context)

    def opaque(self, principal: str) -> str:
        """The id that stands for a principal in the access log."""
        return self._opaque(principal)

    def opaques(self, principal: str) -> tuple[str, ...]:
        """All ids that stand for a principal in the access log, whichever key named it."""
        return tuple(_opaque(self._macs, key_id, principal) for key_id in self.ids)

    def aead(self, purpose: str, *context: str, key_id: str | None = None) -> Aead:
        """AES-256-GCM-SIV under the key derived for `purpose` in `context`, the sealing one if None."""
        key_id = key_id or self.sealing
        return Aead(self.derive(purpose, *context, key_id=key_id), key_id)

    def signer(self, purpose: str, *context: str, key_id: str | None = None) -> Signer:
        """Ed25519 under the key derived for `purpose` in `context`, from the naming key if None."""
        key_id = key_id or self.naming
        return Signer(self.derive(purpose, *context, key_id=key_id), key_id)


def _settled(keys: Iterable[MasterKey], sealing: str, naming: str) -> Keyring:
    """The keys with the states that follow from who seals and names."""

    def state(key: MasterKey) -> State:
        if key.id in (sealing, naming):
            return "active"
        return "standby" if key.state == "active" else key.state

    return Keyring([replace(key, state=state(key)) for key in keys], sealing=sealing, naming=naming)


def _derive(keys: Mapping[str, MasterKey], key_id: str, *labels: str) -> bytes:
    master = keys.get(key_id)
    if master is None:
        raise KeyringError("the keyring has no such key")
    info = prefixed(*map(text_bytes, (LABEL, *labels)))
    return hkdf(master.secret, salt=b"", info=info, length=KEY_BYTES)


def _mac(derived: Callable[..., bytes], key_id: str, *labels: str) -> Mac:
    return Mac(derived(key_id, *labels))


def _opaque(macs: Callable[..., Mac], naming: str, principal: str) -> str:
    return macs(naming, "audit-subject").hexdigest(principal.encode())[:32]
