"""What the lints look at: a policy without faults, and where in its files each thing is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from proxy.errors import Fault
from proxy.plan import Line
from proxy.policy.index import Policy
from proxy.policy.lines import AccessRule, CellRule
from proxy.policy.reading import place
from proxy.policy.source import RULE_FILES
from proxy.policy.syntax import read
from proxy.review.proofs import Prover
from proxy.snapshot import Snapshot

Rule = AccessRule | CellRule


class Written:
    """One policy without faults."""

    def __init__(self, snapshot: Snapshot, files: Mapping[str, bytes]) -> None:
        """`files` are those of the snapshot; others do no harm."""
        self.policy: Policy = snapshot.policy
        self.prover = Prover(snapshot)
        self._records = {
            place(record): record
            for name in RULE_FILES
            if name in files
            for record in read(name, files[name])[0]
        }

    @property
    def rules(self) -> Iterator[Rule]:
        """The `p` lines, then the `p2` lines."""
        yield from self.policy.access
        yield from self.policy.cells

    def fault(self, line: Line, cell: int, message: str, hint: str) -> Fault:
        """What is said of a line, at one of its cells."""
        return self._records[line].fault(message, hint, cell=cell)
