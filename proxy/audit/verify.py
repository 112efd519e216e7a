"""Whether an access log is whole: every entry hashed again, every statement about it held against it.

What is found is graded (findings.py), and has its log and place.

The log's own checkpoints show that its parts fit together, no more: whoever has its keys can write
another history and sign that. Only checkpoints retained elsewhere show that it is the same history as
then. Without the registry's verifier key from elsewhere, even the keys are the log's own word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from proxy.access import NO_EVENT, AccessEvent, decode
from proxy.audit import attached, registry
from proxy.audit.checkpoint import Checkpoint, NotACheckpoint, Note, VerifierKey, opened
from proxy.audit.findings import Grade, Verified
from proxy.audit.looking import Looking, Source, Stretch
from proxy.audit.pruned import Gone
from proxy.audit.registry import Opened, Sealed
from proxy.audit.tiles import (
    HEIGHT,
    WIDTH,
    Edge,
    Folder,
    Missing,
    hashes_path,
)
from proxy.evidence.layout import named
from proxy.keys import is_signature

_NEW: Final = timedelta(minutes=1)
"""What is not published for longer than that is not going to be."""


class _Times(msgspec.Struct):
    at: str


_TIMES: Final = msgspec.json.Decoder(_Times)


Watch = Callable[[int], None]
"""Told of how many entries were looked at just now."""


class Verifier:
    """One look at all of it."""

    def __init__(
        self,
        source: Source,
        tiles: Path,
        *,
        key: VerifierKey,
        retained: Iterable[bytes] = (),
        watch: Watch = lambda _: None,
        now: datetime,
        processes: int = 1,
    ) -> None:
        """`key` is that of the registry; `retained` are checkpoints from elsewhere; `now` has a time zone."""
        self._source = source
        self._looking = Looking(source, processes=processes)
        self._tiles = tiles
        self._key = key
        self._watch = watch
        self._now = now
        self._notes: list[Note] = []
        self._roots: dict[tuple[str, int], bytes] = {}
        """Of the beginnings of logs that somebody states something of."""
        self._keys: dict[str, VerifierKey] = {key.name: key}
        self._registered: list[bytes] = []
        """The registry's entries."""
        self._opened: dict[str, str] = {}
        """Log -> when it was begun."""
        self._sealed: dict[str, Sealed] = {}
        self._gone = Gone()
        self.found = Verified()
        for data in retained:
            try:
                self._notes.append(Note.parse(data))
            except NotACheckpoint as error:
                text = f"a file is no checkpoint: {error}"
                self.found.add(Grade.INVALID, "retained", text)

    def run(self) -> Verified:
        """Verify the registry, then each log that it names, then what was retained."""
        with self._looking:
            self._all()
        return self.found

    def _all(self) -> None:
        origin = self._key.name.removesuffix(f"/{registry.SUFFIX}")
        # First: a log that is begun meanwhile is in the registry later.
        epochs, stated = self._source.epochs(), self._source.stated()
        self._log(registry.EPOCH, self._key.name)
        self._read_registry(origin)
        names = [name for name in self._keys if name != self._key.name]
        for epoch, name in enumerate(names, 1):
            self._log(epoch, name)
        for epoch in epochs:
            if not 0 < epoch <= len(names):
                text = "there are entries of a log that the registry does not name"
                self.found.add(Grade.INVALID, f"{origin}/{epoch}", text, 0)
        if self._source.apart:
            self._hold_stated(stated, {registry.EPOCH, *epochs})
        for note in self._notes:
            self._look_at_retained(note)
        self._look_at_pruned()

    # ── the registry ──

    def _read_registry(self, origin: str) -> None:
        """Learn the logs from the very bytes that were hashed."""
        wrong, name = Grade.INVALID, self._key.name
        for index, leaf in enumerate(self._registered):
            try:
                entry = registry.decode(leaf)
                key = VerifierKey.parse(entry.key) if isinstance(entry, Opened) else None
            except ValueError:
                self.found.add(wrong, name, "it is no entry of a registry", index)
                continue
            match entry:
                case Opened():
                    if entry.log != f"{origin}/{len(self._keys)}":
                        text = f"`{entry.log}` was opened out of turn"
                        self.found.add(wrong, name, text, index)
                    elif key is None or key.name != entry.log:
                        self.found.add(wrong, name, "the key is of another log", index)
                    else:
                        self._keys[entry.log] = key
                        self._opened[entry.log] = entry.at
                case Sealed():
                    if entry.log not in self._keys or entry.log in self._sealed:
                        text = f"`{entry.log}` was sealed before it was opened, or twice"
                        self.found.add(wrong, name, text, index)
                    self._sealed[entry.log] = entry

    def _hold_stated(self, stated: Mapping[int, tuple[str, str]], epochs: set[int]) -> None:
        """What queries tell of logs is as good as what the registry says of them."""
        known = {epoch: (name, str(key)) for epoch, (name, key) in enumerate(self._keys.items())}
        for epoch in sorted({*stated, *epochs}):
            if epoch in known and stated.get(epoch) != known[epoch]:
                text = "the table of logs says otherwise of it than the registry"
                self.found.add(Grade.INVALID, known[epoch][0], text)
            elif epoch in stated and epoch not in known:
                text = (
                    f"the table of logs has `{stated[epoch][0]}`, which the registry does not name"
                )
                self.found.add(Grade.INVALID, self._key.name, text)

    # ── one log ──

    def _log(self, epoch: int, name: str) -> None:
        folder = Folder(self._tiles / (registry.SUFFIX if epoch == registry.EPOCH else str(epoch)))
        # Before the entries: of a log that grows, there are no fewer of them than it says.
        checkpoint = self._checkpoint(epoch, folder, name)
        published = checkpoint.size if checkpoint else 0
        size = self._source.size(epoch, published)
        edge = Edge()
        for stop in sorted({min(at, size) for at in (*self._asked(name), published, size)}):
            stretch = Stretch(epoch, folder.path, published, edge.size, stop)
            if not self._advance(edge, name, stretch):
                break
            self._roots[name, edge.size] = edge.root
            if checkpoint is not None and edge.size == published:
                for level, number, _, hashes in edge.partial():
                    self._hold_tile(folder, name, level, number, hashes, published)
        if edge.size < max(published, size):
            text = f"{max(published, size) - edge.size} entries are missing from here on"
            self.found.add(Grade.INVALID, name, text, edge.size)
        if checkpoint is not None:
            self._hold(checkpoint, "its checkpoint")
        self._hold_to_its_seal(name, edge.size)
        self.found.unpublished += max(0, size - published)
        if checkpoint is not None and published < size:
            self._hold_to_the_clock(epoch, name, published)

    def _checkpoint(self, epoch: int, folder: Folder, name: str) -> Checkpoint | None:
        try:
            checkpoint = opened(folder.checkpoint(), self._keys[name], is_signature)
        except Missing as error:
            grade = Grade.GAPS if self._was_short(epoch, name) else Grade.INVALID
            text = f"it has no checkpoint, and nothing proves it ({error})"
            self.found.add(grade, name, text)
            return None
        except NotACheckpoint as error:
            self.found.add(Grade.INVALID, name, f"its checkpoint is not valid: {error}")
            return None
        self.found.checkpoints.append(checkpoint)
        return checkpoint

    def _was_short(self, epoch: int, name: str) -> bool:
        """Whether its process may have died before it was published for the first time."""
        if name in self._sealed or name not in self._opened:
            return False
        try:
            begun = datetime.fromisoformat(self._opened[name])
            return all(
                abs(datetime.fromisoformat(_TIMES.decode(last).at) - begun) <= _NEW
                for last in self._source.last(epoch)
            )
        except (*NO_EVENT, ValueError, TypeError):
            return False

    def _asked(self, name: str) -> Iterator[int]:
        """The sizes of which somebody states the root."""
        if name in self._sealed:
            yield self._sealed[name].size
        yield from (note.checkpoint.size for note in self._notes if note.checkpoint.origin == name)

    def _hold(self, claim: Checkpoint, what: str) -> None:
        root = self._roots.get((claim.origin, claim.size))
        if root is not None and root != claim.root:
            text = f"its first {claim.size} entries do not have the root of {what}"
            self.found.add(Grade.INVALID, claim.origin, text)

    def _hold_to_the_clock(self, epoch: int, name: str, published: int) -> None:
        """Entries that are not published yet are new: nothing tells who wrote older ones."""
        for entry in self._source.entries(epoch, published, published + 1):
            try:
                age = self._now - datetime.fromisoformat(_TIMES.decode(entry).at)
            except (*NO_EVENT, ValueError, TypeError):
                age = _NEW + _NEW  # it has no time
            if abs(age) > _NEW:
                text = "no checkpoint covers the entries from here on, which are not new: nothing proves them"
                self.found.add(Grade.GAPS, name, text, published)

    def _hold_to_its_seal(self, name: str, size: int) -> None:
        sealed = self._sealed.get(name)
        if sealed is None:
            return
        if sealed.size != size:
            text = f"it was sealed with {sealed.size} entries and has {size}"
            self.found.add(Grade.INVALID, name, text, min(sealed.size, size))
        try:
            self._hold(sealed.checkpoint, "its seal in the registry")
        except ValueError:
            self.found.add(Grade.INVALID, self._key.name, f"the root of `{name}` is none")

    def _advance(self, edge: Edge, name: str, stretch: Stretch) -> bool:
        """Take in the entries up to the stretch's end; False where one is missing."""
        while edge.size < stretch.end:
            start = edge.size
            for looked in self._looking.along(stretch._replace(start=start)):
                self._take(edge, name, stretch, looked.hashes)
                for index, text in looked.wrong:
                    self.found.add(Grade.INVALID, name, text, index)
                if stretch.epoch == registry.EPOCH:
                    self._registered += (entry for _, entry in looked.marked)
                else:
                    self._read_events(name, looked.marked, stretch.published)
                self.found.entries += len(looked.hashes)
                self._watch(len(looked.hashes))
            if edge.size < stretch.end:
                hashes = self._source.pruned(stretch.epoch, edge.size)[: stretch.end - edge.size]
                if not hashes:
                    return False
                self._gone.add(name, edge.size, edge.size + len(hashes))
                self._take(edge, name, stretch, hashes)
        return True

    def _take(self, edge: Edge, name: str, stretch: Stretch, hashes: Sequence[bytes]) -> None:
        """Take in hashes of entries, and hold the tiles that are whole now against their files."""
        for level, number, tile in edge.extend(hashes):
            if (number + 1) * WIDTH <= stretch.published >> HEIGHT * level:
                self._hold_tile(
                    Folder(stretch.folder), name, level, number, tile, stretch.published
                )

    def _hold_tile(
        self, folder: Folder, name: str, level: int, number: int, hashes: bytes, size: int
    ) -> None:
        """Hold the hashes of a tile, and of its entries, against the files."""
        first = number << HEIGHT * (level + 1)
        try:
            if b"".join(folder.hashes(level, number, size)) != hashes:
                text = f"{hashes_path(level, number)} holds other hashes than the entries have"
                self.found.add(Grade.INVALID, name, text, first)
        except Missing as error:
            text = f"a published file is missing or cut: {error}"
            self.found.add(Grade.INVALID, name, text, first)

    def _read_events(self, name: str, marked: Sequence[tuple[int, bytes]], published: int) -> None:
        """Count accesses closed as `unresolved`; note what was pruned, and look for what is named."""
        for index, entry in marked:
            # That an entry is an event is nothing that hashes tell; what is no event was not written by us.
            try:
                event = decode(entry)
            except NO_EVENT:
                self.found.add(Grade.INVALID, name, "it is no access event", index)
                continue
            self._hold_attachments(name, index, event, is_published=index < published)
            if event.step == "prune":
                self._gone.said(event, f"{name}, entry {index}")
            if event.step == "unresolved":
                self.found.unresolved += 1
                if self.found.unresolved == 1:
                    text = "the end of an access is not known: the proxy died under way"
                    self.found.add(Grade.GAPS, name, text, index)

    def _hold_attachments(
        self, name: str, index: int, event: AccessEvent, *, is_published: bool
    ) -> None:
        """What a record names is there and has its digest: beside the entries, and as a file."""
        for digest in filter(None, map(named, event.evidence)):
            self.found.attachments += 1
            looked_at = [("", self._source.attached(digest))]
            if self._source.apart and is_published:
                looked_at.append(("published ", attached.is_whole(self._tiles, digest)))
            for which, whole in looked_at:
                if not whole:
                    wrong = "missing" if whole is None else "not what was named"
                    text = f"its {which}attachment {digest[:12]} is {wrong}"
                    self.found.add(Grade.INVALID, name, text, index)

    # ── what was pruned ──

    def _look_at_pruned(self) -> None:
        """Entries that are gone are on record as pruned, before they went."""
        self.found.pruned += self._gone.on_record()
        for name, first, end in self._gone.unsaid():
            text = f"{end - first} entries are missing from here on, and no record says that they were pruned"
            self.found.add(Grade.INVALID, name, text, first)

    # ── what was retained elsewhere ──

    def _look_at_retained(self, note: Note) -> None:
        kept, wrong = note.checkpoint, Grade.CONTRADICTED
        key = self._keys.get(kept.origin)
        if key is None:
            text = f"a checkpoint of {kept.size} entries was retained, and the registry names no such log"
            self.found.add(wrong, kept.origin, text)
            return
        try:
            signed = key.name in note.signed_by([key], is_signature)
        except NotACheckpoint:
            signed = False
        root = self._roots.get((kept.origin, kept.size))
        if not signed:
            text = f"a retained checkpoint is not signed by the key {key.id.hex()} of this log"
            self.found.add(wrong, kept.origin, text)
        elif root is None:
            sizes = (size for name, size in self._roots if name == kept.origin)
            size = max(sizes, default=0)
            text = f"a checkpoint of {kept.size} entries was retained, and there are {size}"
            self.found.add(wrong, kept.origin, text, size)
        elif root != kept.root:
            text = f"its first {kept.size} entries are not those of the retained checkpoint"
            self.found.add(wrong, kept.origin, text)
