"""The files of a policy folder -> a policy that can be put in force, or every fault at once.

Nothing is skipped: each line is a rule that was understood whole, a comment, or a fault with its
place. The steps: 1 the Casbin model is the shipped one, 2 lines -> records, 3 sets, so that report
patterns can be checked, 4 cells -> rules (`reading`), 5 no cycles, 6 forms that meet on a field can be
compared, and no line tells of what another one suppresses.
"""

from __future__ import annotations

import graphlib
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from proxy.errors import Fault, Faulty
from proxy.plan import Line
from proxy.policy.differencing import differenced
from proxy.policy.index import Policy
from proxy.policy.lines import CellRule
from proxy.policy.meeting import incomparable
from proxy.policy.piecemeal import let_go
from proxy.policy.reading import Reader, place, shaped
from proxy.policy.rules import MODEL, canonical_model
from proxy.policy.syntax import Record, read
from proxy.report import Report
from proxy.subject import AttributeType

MODEL_FILE: Final = "model.conf"
POLICY_FILE: Final = "policy.csv"
RULE_FILES: Final = (POLICY_FILE, "grants.csv", "lockdown.csv")
"""The files of one syntax; all but the first may be absent."""

_CYCLES: Final = 20
"""Most cycles of roles or sets that are told of at once."""


def load(
    files: Mapping[str, bytes],
    *,
    reports: Mapping[str, Report],
    classes: Collection[str],
    attributes: Mapping[str, AttributeType],
    purposes: Collection[str] = (),
    version: str,
) -> Policy:
    """The policy that the files' contents, by file name, write; other names are not looked at.

    `reports`, `classes` and `purposes` are the catalogue's, `attributes` the declared types of
    `sub.*`, `version` the SHA-256 (hex) over the canonical content of all policy files. Raises
    Faulty.
    """
    faults = _model_faults(files)
    records = _records(files, faults)
    lost = any(fault.file == POLICY_FILE and not fault.line for fault in faults)
    any_access = any(record.cells[0] == "p" for record in records)
    reader = Reader(records, reports, classes, attributes, faults)
    if not any_access and not lost:
        faults.append(
            Fault(
                file=POLICY_FILE,
                message="has no `p` line",
                hint="a policy that permits nobody anything is taken for a lost file",
            )
        )
    faults += _cycles(reader.members, "role")
    faults += _cycles(reader.sets, "set")
    faults += _clashes(reader.cells, reports, files)
    reader.forget()
    if faults:
        let_go(reader.access, reader.cells, reader.reveals, reader.members, reader.sets)
        raise Faulty(dict.fromkeys(faults))
    return Policy(
        version=version,
        reports=reports,
        purposes=purposes,
        access=reader.access,
        cells=reader.cells,
        reveals=reader.reveals,
        members=reader.members,
        sets=reader.sets,
    )


def written(files: Mapping[str, bytes]) -> list[Fault]:
    """What is wrong with the files whatever the catalogue says: characters, brackets, shapes of lines."""
    faults = _model_faults(files)
    for record in _records(files, faults):
        shaped(record, faults)
    return faults


def _records(files: Mapping[str, bytes], faults: list[Fault]) -> list[Record]:
    """The records of all files, which nothing else holds; what is wrong is added to `faults`."""
    records: list[Record] = []
    for name in RULE_FILES:
        if name in files:
            found, wrong = read(name, files[name])
            records += found
            faults += wrong
        elif name == POLICY_FILE:
            faults.append(
                Fault(file=name, message="is missing", hint="a policy has at least one `p`")
            )
    return records


def _model_faults(files: Mapping[str, bytes]) -> list[Fault]:
    """What is wrong with model.conf: anything but the shipped model."""
    if MODEL_FILE not in files:
        return [Fault(file=MODEL_FILE, message="is missing", hint="copy the shipped one")]
    try:
        given = canonical_model(files[MODEL_FILE].decode("utf-8"))
    except UnicodeDecodeError:
        given = ()
    if given == canonical_model(MODEL):
        return []
    hint = "copy the shipped one: decisions are proved for that model alone"
    return [Fault(file=MODEL_FILE, message="is not the shipped model", hint=hint)]


def _clashes(
    cells: Sequence[CellRule], reports: Mapping[str, Report], files: Mapping[str, bytes]
) -> list[Fault]:
    """A fault at each line that may not stand beside others, or with the report as it is."""
    found = [(cells[n].line, 5, message, hint) for n, message, hint in incomparable(cells, reports)]
    found += [
        (cells[n].line, cell, message, hint)
        for n, cell, message, hint in differenced(cells, reports)
    ]
    if not found:
        return []
    # Records were let go of line by line; they are read again for the few that are at fault.
    wanted = {line for line, *_ in found}
    records = {
        line: record
        for name in RULE_FILES
        for record in read(name, files.get(name, b""))[0]
        if (line := place(record)) in wanted
    }
    return [records[line].fault(message, hint, cell=cell) for line, cell, message, hint in found]


def _cycles(links: Mapping[tuple[str, str], Line], what: str) -> list[Fault]:
    """A fault for each circle of memberships, at its last line."""
    held = {of for _, of in links}
    graph: dict[str, set[str]] = {}
    for member, of in links:
        if member in held:  # whoever is in a circle is so
            graph.setdefault(member, set()).add(of)
    faults: list[Fault] = []
    while len(faults) < _CYCLES:
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            # Each name of the circle is a predecessor of the next: graph[next] holds it.
            circle = list(error.args[1])
            steps = [(after, before) for before, after in itertools.pairwise(circle)]
            last = max(steps, key=lambda step: (links[step].file, links[step].line))
            names = " in ".join(f"`{name}`" for name in reversed(circle))
            faults.append(
                Fault(
                    file=links[last].file,
                    line=links[last].line,
                    column=1,
                    message=f"a circle of {what}s: {names}",
                    hint="take one of its lines out",
                )
            )
            graph[last[0]].discard(last[1])
        else:
            break
    return faults
