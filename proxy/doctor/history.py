"""The access log: whether it opens, and its newest checkpoints are what the registry says of its logs."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from shlex import quote
from typing import Final

from proxy.audit import registry
from proxy.audit.checkpoint import NotACheckpoint, VerifierKey, opened
from proxy.audit.sources import Leaves
from proxy.audit.store import Files, explain
from proxy.audit.tiles import CHECKPOINT, Edge, Folder, Missing
from proxy.doctor.finding import Finding, Patient, State
from proxy.errors import CounterfoilError
from proxy.keys import is_signature

_CHECK: Final = "access log"


async def access_log(patient: Patient) -> Iterable[Finding]:
    """What is found of it."""
    return _looked_at(patient)


def _looked_at(patient: Patient) -> Iterable[Finding]:
    """Read only, beside a server that may be writing it; `log verify` is what looks at every entry."""
    files = Files.at(patient.config.path(patient.config.settings.log))
    what = str(files.leaves)
    verify = f"counterfoil log verify --log {quote(str(files.leaves))}"
    if not os.path.lexists(files.leaves):
        text = "there is none yet; the first start makes it"
        return [Finding(check=_CHECK, what=what, state=State.OK, text=text)]
    if files.leaves.exists() and not files.leaves.is_file():
        text, fix = "is not a file", "take away what is there, or name another place as `log`"
        return [Finding(check=_CHECK, what=what, state=State.FAIL, text=text, fix=fix)]
    try:
        with closing(Leaves(files)) as leaves:
            if leaves.altered:
                raise CounterfoilError("its tables are not those of an access log")
            text = _verified(leaves, files)
    except (CounterfoilError, NotACheckpoint, Missing) as exc:
        text = str(exc)
    except ValueError:
        text = "its registry holds what is no entry or key"
    except sqlite3.Error as exc:
        text = explain(exc, files.leaves)
    except OSError as exc:
        text = f"its checkpoints cannot be read: {exc.strerror}"
    else:
        return [Finding(check=_CHECK, what=what, state=State.OK, text=text)]
    return [
        Finding(
            check=_CHECK,
            what=what,
            state=State.FAIL,
            text=text,
            fix="keep a copy of all of its files, then see what does not fit",
            command=verify,
        )
    ]


def _verified(leaves: Leaves, files: Files) -> str:
    """That the newest checkpoints are signed, and of what there is; raises where not."""
    key = VerifierKey.parse(leaves.key())
    folder = Folder(files.tiles / registry.SUFFIX)
    if not (folder.path / CHECKPOINT).exists():
        return "opens; nothing of it is published yet"
    size = _covered(folder, key, leaves, registry.EPOCH)
    named = {
        entry.log: VerifierKey.parse(entry.key)
        for entry in map(registry.decode, leaves.entries(registry.EPOCH, 0, size))
        if isinstance(entry, registry.Opened)
    }
    epochs = [each for each in leaves.epochs() if each != registry.EPOCH]
    newest = max(epochs, default=registry.EPOCH)
    own = Folder(files.tiles / str(newest))
    if not epochs or not (own.path / CHECKPOINT).exists():
        return "opens, and its registry's checkpoint holds"
    name, _ = leaves.stated().get(newest, ("", ""))
    if name not in named:
        raise CounterfoilError(f"its registry does not name the log {newest}")
    count = _covered(own, named[name], leaves, newest)
    return f"opens, and the newest checkpoint, over {count} entries of {name}, holds"


def _covered(folder: Folder, key: VerifierKey, leaves: Leaves, epoch: int) -> int:
    """How many entries a checkpoint covers, which is signed by `key` and has its own tree's root."""
    checkpoint = opened(folder.checkpoint(), key, is_signature)
    if checkpoint.size > leaves.size(epoch, checkpoint.size):
        raise CounterfoilError(f"{key.name} is shorter than its signed checkpoint")
    if Edge.of(folder, checkpoint.size).root != checkpoint.root:
        raise CounterfoilError(f"the published tree of {key.name} is not the one that was signed")
    return checkpoint.size
