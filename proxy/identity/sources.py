"""Where the keys of an issuer come from: a file, a URL, or what the issuer says of itself.

A set that is not in a file is fetched in the background as soon as the policy is in force, and again when
it is older than `refresh_seconds`; beside that when a token names an unknown key, but never twice within
`cool_down_seconds` (`refresh_seconds` where that is less, `_RETRY` as long as there are no keys at all),
however many requests ask. Requests wait for it only where the known keys will not do: there are none, the key
is not among them, or they are older than twice `refresh_seconds`. While the identity provider cannot be
reached the known keys serve on, at most for `outage_seconds` after they should have been fetched anew. So a
key that was rotated out stops to count within `refresh_seconds` and the seconds that a fetch may take, in an
outage within `outage_seconds` more; and with it every token that is remembered to be signed by it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal

from proxy.identity import discovery
from proxy.identity.discovery import Metadata
from proxy.identity.entries import KeysEntry
from proxy.identity.fetching import fetch, why
from proxy.identity.jwks import MOST_BYTES, KeySet

_LOGGER: Final = logging.getLogger("counterfoil")

_RETRY: Final = 5.0
"""Least seconds between two fetches while there are no keys, where the cool-down is no shorter."""
_KID: Final = re.compile(r"[A-Za-z0-9._~+/=:@#|-]{1,256}\Z")

What = Literal["discovery", "keys", "introspection"]
Fetches = Counter[tuple[What, bool]]
"""How many requests for what were answered well, or not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileKeys:
    """A set that was read from a file; a reload of the policy reads it anew."""

    keys: KeySet | None
    """None where the file was not looked for: then no token of the issuer is good."""
    file: str
    """Where it is, from the folder of subjects.yaml."""
    refresh_at: float = math.inf

    async def look_for(self, kid: str | None, now: float) -> KeySet | None:  # noqa: ARG002
        """The set as it is."""
        return self.keys


class RemoteKeys:
    """A set that is fetched; `now` is in seconds since the epoch, given by the caller."""

    def __init__(self, issuer: str, entry: KeysEntry) -> None:
        """`entry` names no file."""
        self.issuer = issuer
        self.entry = entry
        self.keys: KeySet | None = None
        self.metadata: Metadata | None = None
        """What the issuer said of itself, where it was asked."""
        self.refresh_at = -math.inf
        """Before then, and with keys, there is nothing to do."""
        self.fetches: Fetches = Counter()
        self.fetched = -math.inf
        """When the keys were had."""
        self._asked = -math.inf
        self._failing = False
        self._running: asyncio.Task[None] | None = None

    def going_on(self, entry: KeysEntry) -> RemoteKeys:
        """The same source under other settings, with what was had from it."""
        if entry == self.entry:
            return self
        made = RemoteKeys(self.issuer, entry)
        if entry.url == self.entry.url:
            made.keys, made.metadata = self.keys, self.metadata
            made.fetched, made.fetches = self.fetched, self.fetches
        return made

    async def look_for(self, kid: str | None, now: float) -> KeySet | None:
        """The set, fetched anew where that is needed and allowed; None where there is none."""
        self.keep_fresh(now)
        lacking = self.keys is None or (
            kid is not None and not self.keys.knows(kid) and _plausible(kid)
        )
        if lacking:
            self._start(now)
        # A clock that was set back makes ages negative: then everything counts as old.
        neglected = abs(now - self.fetched) > 2 * self.entry.refresh_seconds and not self._failing
        await self._fetched_if(lacking or neglected)
        return self.keys

    async def describe(self, now: float) -> Metadata | None:
        """What the issuer says of itself; None where that is not known."""
        if self.metadata is None:
            self._start(now)
            await self._fetched_if(wanted=True)
        return self.metadata

    async def _fetched_if(self, wanted: bool) -> None:  # noqa: FBT001 - one word, said once
        if self._running is not None and wanted:
            # One fetch serves all who wait; none of them, gone, may end it for the others.
            await asyncio.shield(self._running)

    def keep_fresh(self, now: float) -> None:
        """Forget what is too old, and fetch what soon will be; nobody waits for it."""
        age = abs(now - self.fetched)
        if self.keys is not None and age > self.entry.outage_seconds + self.entry.refresh_seconds:
            _LOGGER.error("the keys of %s are too old to be used", self.issuer)
            self.keys = None
        if age > self.entry.refresh_seconds:
            self._start(now)

    async def close(self) -> None:
        """End a fetch that is under way."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def _start(self, now: float) -> None:
        pause = float(min(self.entry.cool_down_seconds, self.entry.refresh_seconds))
        if self.keys is None:
            pause = min(pause, _RETRY)
        if self._running is None and abs(now - self._asked) >= pause:
            self._asked = now
            self._running = asyncio.create_task(self._run(now))

    async def _run(self, now: float) -> None:
        what: What = "keys"
        try:
            url = self.entry.url
            if url is None:
                what = "discovery"
                said = await fetch(discovery.location(self.issuer), most=discovery.MOST_BYTES)
                self.metadata = Metadata.parse(said, issuer=self.issuer)
                self.fetches[what, True] += 1
                what, url = "keys", self.metadata.jwks_uri
            raw = await fetch(url, most=MOST_BYTES)
            if self.keys is None or self.keys.raw != raw:
                self.keys = await asyncio.to_thread(KeySet, raw)
                _tell_skipped(self.issuer, self.keys)
        except Exception as exc:  # noqa: BLE001 - whatever is wrong there, known keys serve on here
            self._failing = True
            self.fetches[what, False] += 1
            named = "metadata" if what == "discovery" else what
            _LOGGER.warning("the %s of %s cannot be had: %s", named, self.issuer, why(exc))
        else:
            self._failing = False
            self.fetches[what, True] += 1
            self.fetched = now
            self.refresh_at = now + self.entry.refresh_seconds
        finally:
            self._running = None


def _tell_skipped(issuer: str, keys: KeySet) -> None:
    if keys.skipped:
        _LOGGER.info("%d of the keys of %s are of no use here", keys.skipped, issuer)


def _plausible(kid: str) -> bool:
    """Whether a key may have that id: nobody is asked for one that is an attack in itself."""
    return _KID.match(kid) is not None and ".." not in kid
