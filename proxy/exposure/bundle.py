"""The evidence bundle: a zip that proves itself to whoever has neither the log nor this program.

    README.md                 the commands with which it is checked
    check.py                  … which need nothing but Python (checker.py)
    report.html               what was found, for people (page.py)
    exposure.csv              the same for spreadsheets
    records/ACCESS-N.json     each record of each access, its exact bytes; beside it its tlog-proof
    pruned/…                  where first records of an access were pruned: the records that say so, proved
    attachments/DIGEST        what records name
    registry/…                the registry of logs, whole, with its checkpoint
    keys/…                    the verifier keys

The same question, asked of the same state of the log, gives the same bytes.
"""

from __future__ import annotations

import csv
import io
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Final

from proxy.access import AccessEvent
from proxy.audit import Leaf, registry
from proxy.audit.accesses import csv_cell
from proxy.audit.proof import Proof, checkpoint_of, proved, size_in
from proxy.audit.sources import Leaves
from proxy.audit.store import Files, failing_as_unavailable
from proxy.audit.tiles import Folder
from proxy.errors import LogUnavailable
from proxy.evidence.layout import named
from proxy.exposure.page import page
from proxy.exposure.search import Exposed
from proxy.exposure.told import Asking, flat
from proxy.formulas import neutral
from proxy.values import Type

_DATE: Final = (1980, 1, 1, 0, 0, 0)
"""Of every file in the zip: it has no date that says anything."""
_PRIVATE: Final = 0o600 << 16

Records = Mapping[str, Sequence[tuple[Leaf, AccessEvent]]]


def write(
    path: Path, log: Path, asking: Asking, found: Sequence[Exposed], records: Records
) -> None:
    """Write the bundle, whole or not at all; raises OSError, and LogUnavailable where it cannot be proved."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with (
            os.fdopen(os.open(scratch, flags, 0o600), "wb") as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle,
        ):
            for name, content in _files(Files.at(log), asking, found, records):
                entry = zipfile.ZipInfo(name, _DATE)
                entry.external_attr, entry.create_system = _PRIVATE, 3
                entry.compress_type = zipfile.ZIP_DEFLATED
                bundle.writestr(entry, content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _files(
    files: Files, asking: Asking, found: Sequence[Exposed], records: Records
) -> Iterator[tuple[str, bytes]]:
    with failing_as_unavailable(files.leaves), closing(Leaves(files)) as leaves:
        key = leaves.key()
        checkpoint, entries = _registry(files, leaves)
        yield "README.md", resources.files(__package__).joinpath("bundle.md").read_bytes()
        yield "check.py", resources.files(__package__).joinpath("checker.py").read_bytes()
        yield "report.html", page(asking, found, key).encode()
        yield "exposure.csv", _csv(found).encode()
        yield "keys/registry.vkey", f"{key}\n".encode()
        try:
            opened = [e for e in map(registry.decode, entries) if isinstance(e, registry.Opened)]
        except ValueError as error:
            raise LogUnavailable(f"{files.leaves} is damaged: {error}") from None
        yield "keys/logs.vkey", "".join(f"{each.key}\n" for each in opened).encode()
        yield "registry/checkpoint", checkpoint
        for number, entry in enumerate(entries):
            yield f"registry/{number}.json", entry
        known = {each.log for each in opened}
        digests: set[str] = set()
        proofs = _Proofs(files)
        for each in found:
            for number, (leaf, event) in enumerate(records[each.access.access]):
                if leaf.log not in known:
                    raise LogUnavailable(
                        f"no checkpoint of the registry covers {leaf.log} yet: try again in a second"
                    )
                name = f"records/{event.access}-{number}"
                yield f"{name}.json", leaf.entry
                yield f"{name}.tlog-proof", bytes(proofs.of(leaf))
                digests |= {d for d in map(named, event.evidence) if d is not None}
        firsts = [event for each in found for _, event in records[each.access.access][:1]]
        if any(event.part for event in firsts):
            for number, (epoch, index, entry) in enumerate(leaves.prunings()):
                yield f"pruned/{number}.json", entry
                yield f"pruned/{number}.tlog-proof", bytes(proofs.at(str(epoch), index))
        for digest in sorted(digests):
            content = leaves.attachment(digest)
            if content is not None:  # what is missing is told, and the check says so again
                yield f"attachments/{digest}", content


def _registry(files: Files, leaves: Leaves) -> tuple[bytes, list[bytes]]:
    """Its checkpoint, and the entries that this covers."""
    note = checkpoint_of(Folder(files.tiles / registry.SUFFIX))
    return note, leaves.entries(registry.EPOCH, 0, size_in(note))


class _Proofs:
    """Proofs of records, those of one log by one checkpoint of it while that suffices."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._folders: dict[str, tuple[Folder, bytes]] = {}

    def of(self, leaf: Leaf) -> Proof:
        """The proof of a record; raises LogUnavailable."""
        return self.at(leaf.log.rpartition("/")[2], leaf.index)

    def at(self, log: str, index: int) -> Proof:
        """The same by a log's number; raises LogUnavailable."""
        if log not in self._folders:
            folder = Folder(self._files.tiles / log)
            self._folders[log] = folder, checkpoint_of(folder)
        return proved(*self._folders[log], index)


def _csv(found: Sequence[Exposed]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    for number, each in enumerate(found):
        values = flat(each)
        if not number:
            writer.writerow(values)
        writer.writerow([neutral(csv_cell(value), Type.TEXT) for value in values.values()])
    return out.getvalue()
