"""The parameters of accesses on record, as far as it counts for a candidate which values they had.

So accesses that differ in nothing else are decided once. The value of a parameter on a field of a closed
class is on record as a digest alone: of it no more is known than that it was good then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from proxy.catalogue import canonical
from proxy.report import Operator, Parameter, Report
from proxy.values import Type

_MOST_REMEMBERED: Final = 200_000
_PARAMETERS: Final = msgspec.json.Decoder(dict[str, str])
_DIGEST: Final = "hmac:"
"""How the record of a value begins that is not recorded itself."""


class Use(NamedTuple):
    """One parameter of a request."""

    name: str
    value: str = ""
    """Where it says which fields are looked at."""
    good: bool | None = True
    """Whether the candidate takes the value; None: only a digest of it is on record."""


class Uses:
    """Reads parameters as they are on record."""

    def __init__(self, candidate: Mapping[str, Report]) -> None:
        self._reports = candidate
        self._known: dict[tuple[str, str, str], Use] = {}

    def read(self, report: str, parameters: str) -> tuple[Use, ...]:
        """The uses that a record's `parameters` (JSON) tells of."""
        known = self._known
        return tuple(
            [
                known.get((report, name, value)) or self._remember(report, name, value)
                for name, value in _PARAMETERS.decode(parameters).items()
            ]
        )

    def _remember(self, report: str, name: str, value: str) -> Use:
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        use = self._known[report, name, value] = self._use(report, name, value)
        return use

    def _use(self, report: str, name: str, value: str) -> Use:
        declared = self._reports.get(report)
        parameter = declared.parameters.get(name) if declared else None
        if parameter is None or _takes_any(parameter):
            return Use(name)
        if parameter.chooses:
            return Use(name, value)
        if value.startswith(_DIGEST):
            return Use(name, good=None)
        return Use(name, good=canonical(parameter, value) is not None)

    def compared(self, uses: tuple[Use, ...], then: Report | None) -> tuple[Use, ...]:
        """The same, with `then` as the report was: a value that was good is so if the same is asked of it."""
        after = self._reports.get(then.id) if then else None
        if then is None or after is None:
            return uses
        before, now = then.parameters, after.parameters
        return tuple(
            [
                Use(use.name)
                if use.good is None
                and use.name in before
                and _domain(before[use.name]) == _domain(now[use.name])
                else use
                for use in uses
            ]
        )


def fault(uses: Iterable[Use], report: Report) -> str:
    """What is wrong with them, a cause of the gateway's; '' where they are as declared."""
    missing = {each.name for each in report.parameters.values() if each.required}
    for use in uses:
        parameter = report.parameters.get(use.name)
        if parameter is None:
            return "parameter-unknown"
        if use.good is False or (parameter.chooses and canonical(parameter, use.value) is None):
            return "parameter-value"
        missing.discard(use.name)
    return "parameter-missing" if missing else ""


def _takes_any(parameter: Parameter) -> bool:
    """Whether it takes whatever another parameter took."""
    free = not parameter.allowed and parameter.operator is not Operator.IN
    return free and parameter.type is Type.TEXT and not (parameter.chooses or parameter.pages)


def _domain(parameter: Parameter) -> object:
    """All that decides whether a value is one of the parameter's."""
    return (parameter.by, parameter.type, parameter.operator, parameter.allowed, parameter.most)
