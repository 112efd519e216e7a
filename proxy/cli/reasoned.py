"""Why an access of the log was decided as it was, in sentences: by the policy version of then.

The lines on record are told with their text, from the version's files beside the log; where no line is on
record, for none allowed it, those which nearly did, by the explanation that `policy explain --event` gives.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from proxy.audit import Access, Past, Reader
from proxy.cli.policy import event as of_event
from proxy.cli.policy.explain import answered
from proxy.errors import CounterfoilError
from proxy.plan import Deny
from proxy.reasons import Reason
from proxy.review.ended import CUT
from proxy.review.explain import Said
from proxy.snapshot import Snapshot, snapshot_of

_TITLES: Final = {reason.slug: reason.value.title for reason in Reason}
_NEARLY: Final = 5
"""How many lines are told that nearly counted."""
_VERSIONS: Final = 8
"""How many versions of the policy are kept at hand."""
_NO_ACCESS: Final = {
    "opened": "no access: a writer opened the log",
    "policy-loaded": "no access: this version of the policy came into force",
    "policy-refused": "no access: the files were not taken, and the version before stayed in force",
    "keys-loaded": "no access: this keyring came into force",
    "keys-refused": "no access: the keyring's file was not taken",
    "prune": "no access: an operator removed old entries of the log; their hashes stay",
    "hold": "no access: an operator began or ended a legal hold",
    "operated": "no access: an operator used a verb on the files, outside enforcement",
    "drift": "no access: the store gives other fields than the catalogue declares",
}
_ENDED: Final = {
    "open": "its end is not on record: it goes on, or the proxy died; what the records say is taken as given",
    "unresolved": "the proxy died before its end: assume that all which its records cover was given",
    "client-gone": "it broke off: the client went away",
    "store-failed": "it broke off: the store failed",
    "log-failed": "it broke off: the end could not be recorded",
    "stopped": "it broke off: the proxy was stopped",
    "budget-spent": "it broke off: what the subject may be given in this time (limits.yaml) was spent",
    "budget-failed": "it broke off: it was not known how much of its budgets the subject had spent",
    "internal-error": "it broke off: something went wrong in the proxy",
}


class Reasoned:
    """Explains accesses of one log, whose reader is open."""

    def __init__(self, reader: Reader, log: Path) -> None:
        self._reader = reader
        self._log = log
        self._files = functools.lru_cache(_VERSIONS)(self._read)
        self._snapshot = functools.lru_cache(_VERSIONS)(self._compiled)

    def why(self, access: Access) -> tuple[str, ...]:
        """The sentences."""
        one = self._reader.one(access.access)
        if one is None or not access.decision:
            said = _NO_ACCESS.get(access.outcome, "no access")
            return (f"{said} (cause {access.cause})" if access.cause else said,)
        past, end = one
        told = [
            *(
                self._permitted(access, past)
                if past.decision == "permit"
                else self._refused(access, past)
            )
        ]
        if access.outcome in CUT:
            try:
                cut = of_event.cut(self._recalled(access, past), end, {}, self._log)
                told.append(f"what cut it: {cut.why}" if cut else "")
            except CounterfoilError as exc:
                told.append(f"what cut it cannot be told: {exc}")
        told.append(_ENDED.get(access.outcome, ""))
        return tuple(filter(None, told))

    def _permitted(self, access: Access, past: Past) -> Iterator[str]:
        files = self._files(past.policy)
        lines = [(line, _text(line, files)) for line in access.lines]
        cells = [each for each in lines if each[1].startswith("p2,")]
        rules = [each for each in lines if each not in cells]
        yield f"permitted by {_listed(rules)}" if rules else "permitted; no line is on record"
        if cells:
            yield f"its cells by {_listed(cells)}"
        if isinstance(files, str):
            yield files
        forms: dict[str, list[str]] = {}
        for field, given in access.fields.items():
            forms.setdefault(", ".join(sorted(given)), []).append(field)
        if forms:
            yield "given: " + "; ".join(
                f"{form or 'in some form'}: {', '.join(fields)}" for form, fields in forms.items()
            )

    def _refused(self, access: Access, past: Past) -> Iterator[str]:
        title = _TITLES.get(past.reason, past.reason)
        yield f"refused ({access.status}, {past.reason}): {title}; cause {past.cause or 'none'}"
        files = self._files(past.policy) if past.policy else {}
        if access.lines:
            by = _listed([(line, _text(line, files)) for line in access.lines])
            none = past.cause == "no-cell-rule"
            yield f"allowed by {by}; but no line gives a cell of it" if none else f"by {by}"
            if isinstance(files, str):
                yield files
            return
        try:
            then = self._recalled(access, past)
            found = of_event.explained(then)
        except of_event.DecidedBefore:
            yield "no policy line decided this"
            return
        except CounterfoilError as exc:
            yield f"what it lacked cannot be told: {exc}"
            return
        if not isinstance(found.decision, Deny):
            yield answered(past, found).why
            return
        nearly = [line for line in found.lines if line.said is not Said.APPLIED]
        yield "no line allows it, and what no line allows is denied" + (
            "; those about this report:" if nearly else ": there is none about this report"
        )
        for line in nearly[:_NEARLY]:
            why = f" ({line.why})" if line.why else ""
            yield f"{line.line} {line.effect}s {line.principal} {line.action}: {line.said}{why}"
        if len(nearly) > _NEARLY:
            yield f"and {len(nearly) - _NEARLY} more: counterfoil policy explain --event {access.access}"
        if read := [name for name in found.attributes if name.removeprefix("sub.") in then.unknown]:
            yield f"not on record, and so unknown here: {', '.join(read)}"

    def _recalled(self, access: Access, past: Past) -> of_event.Recalled:
        if not past.subject:
            raise of_event.DecidedBefore(past, "its requester was not known")
        if not access.principal:
            raise CounterfoilError("its requester's name was erased")
        snapshot = self._snapshot(past.policy)
        if isinstance(snapshot, str):
            raise CounterfoilError(snapshot)
        return of_event.recall(past, access.principal, snapshot, {})

    def _read(self, version: str) -> Mapping[str, bytes] | str:
        """The files of a version, or why they are not there."""
        try:
            return of_event.files_of(version, self._log)
        except CounterfoilError as exc:
            return str(exc)

    def _compiled(self, version: str) -> Snapshot | str:
        files = self._files(version)
        try:
            return files if isinstance(files, str) else snapshot_of(files)
        except CounterfoilError as exc:
            return str(exc)


def _text(place: str, files: Mapping[str, bytes] | str) -> str:
    """What stands at a place such as `policy.csv:12`; '' where that is not known."""
    name, _, number = place.rpartition(":")
    if isinstance(files, str) or name not in files or not number.isdecimal():
        return ""
    lines = files[name].decode("utf-8", "replace").split("\n")
    return " ".join(lines[int(number) - 1].split()) if 0 < int(number) <= len(lines) else ""


def _listed(lines: list[tuple[str, str]]) -> str:
    return "; ".join(f"{place} `{text}`" if text else place for place, text in lines)
