"""Where the time of one access goes: from which step on it was in which, for those who ask for traces.

    identify → decide → fetch → transform → record → release → transform → record → release …

One step begins where the one before ends, so that all of them together are the access. A trace holds no value
of a report, no token and no parameter; what it may say is the table `ATTRIBUTES`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final, Literal

import msgspec
from aiohttp import web
from multidict import istr

from proxy.access import AccessEvent
from proxy.plan import Deny

TRACEPARENT: Final = istr("traceparent")
_PARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\Z")
"""W3C Trace Context §3.2, version 00."""
_SAMPLED: Final = 1
_MOST_STEPS: Final = 64
"""Of one trace; a long answer goes on in the last one."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})

StepName = Literal["identify", "decide", "fetch", "transform", "record", "release"]
STEPS: Final[dict[StepName, str]] = {
    "identify": "The head is there, the client and its token are looked at, and an issuer is waited for.",
    "decide": "The request is routed and decided, its parameters are read, its budgets looked at.",
    "fetch": "The store is asked, until its answer's head is there; the parent of the store's own spans.",
    "transform": "The store's answer is read and made into the requester's, or sealed cells are opened.",
    "record": "A record is made durable.",
    "release": "Blocks go out, at the pace of whoever takes them.",
}
ATTRIBUTES: Final = {
    "http.request.method": "The method; `_OTHER` for one that is not common.",
    "http.response.status_code": "The status.",
    "counterfoil.event": "The id under which the access log has the access; not where none could be made.",
    "counterfoil.subject": "The access log's id of the subject; never its name.",
    "counterfoil.action": "`read`, `reveal` …",
    "counterfoil.report": "The report's id, where there is such a report.",
    "counterfoil.decision": "`permit` or `deny`.",
    "counterfoil.reason": "Why it is refused, in the access log's words.",
    "error.type": "The same, where the status is 5xx.",
    "counterfoil.ended": "How an answer ended, in the access log's words.",
    "counterfoil.rows": "Rows that the records say are released.",
    "counterfoil.bytes": "Bytes that they say are released.",
    "counterfoil.store": "Of `fetch`: the store's name.",
    "counterfoil.more_steps": "How many steps have no span of their own, beyond 64 in one trace.",
}
Said = dict[str, str | int]


class Step(msgspec.Struct, kw_only=True):
    """One step; instants in nanoseconds since the epoch."""

    name: StepName
    id: bytes
    """8 random bytes."""
    began: int
    ended: int = 0
    said: Said = {}


class Trace:
    """One access, while it goes on and when it is over; nothing is taken down afterwards."""

    __slots__ = ("_offset", "began", "ended", "id", "parent", "said", "span", "steps")

    def __init__(self, trace_id: bytes, parent: bytes, method: str) -> None:
        """`trace_id` are 16 bytes; `parent` 8, the span that a trusted client was in, or none."""
        self.id = trace_id
        self.parent = parent
        self.span = os.urandom(8)
        self._offset = time.time_ns() - time.perf_counter_ns()
        self.began = time.perf_counter_ns() + self._offset
        self.ended = 0
        self.said: Said = {"http.request.method": method if method in _METHODS else "_OTHER"}
        self.steps = [Step(name="identify", id=os.urandom(8), began=self.began)]

    def enter(self, name: StepName) -> None:
        """The step before is over, and this one begins."""
        last = self.steps[-1]
        if self.ended:
            return
        if len(self.steps) >= _MOST_STEPS:
            more = self.said.get("counterfoil.more_steps", 0)
            assert isinstance(more, int)
            self.said["counterfoil.more_steps"] = more + 1
            return
        if last.name == name:
            return
        last.ended = time.perf_counter_ns() + self._offset
        self.steps.append(Step(name=name, id=os.urandom(8), began=last.ended))

    def fetch(self, store: str) -> str:
        """The step in which a store is asked begins; the `traceparent` that it is asked with, or ''."""
        self.enter("fetch")
        step = self.steps[-1]
        if self.ended or step.name != "fetch":  # it goes on for others, or has had too many steps
            return ""
        step.said = {"counterfoil.store": store}
        return f"00-{self.id.hex()}-{step.id.hex()}-01"

    def recorded(self, event: AccessEvent, *, report: str) -> None:
        """What is on record now; the last record counts. `report` is '' where there is no such report."""
        said = {
            "counterfoil.event": event.access,
            "counterfoil.subject": event.subject,
            "counterfoil.action": event.action,
            "counterfoil.report": report,
            "counterfoil.decision": event.decision,
            "counterfoil.reason": event.reason,
            "counterfoil.ended": event.ended,
        }
        self.said |= {name: value for name, value in said.items() if value}
        self.said["counterfoil.rows"] = event.rows
        self.said["counterfoil.bytes"] = event.bytes

    def refused(self, deny: Deny, *, event: str = "") -> None:
        """It is refused without a record of its own: `event` is that of a burst, where there is one."""
        self.said["counterfoil.decision"] = "deny"
        self.said["counterfoil.reason"] = deny.reason.slug
        if event:
            self.said["counterfoil.event"] = event

    def finish(self, status: int) -> None:
        """It is over; `status` is 0 where nothing could be answered."""
        if self.ended:
            return
        self.ended = self.steps[-1].ended = time.perf_counter_ns() + self._offset
        if status:
            self.said["http.response.status_code"] = status
        if status >= 500:
            self.said["error.type"] = self.said.get("counterfoil.reason", str(status))


_KEPT: Final = web.RequestKey("counterfoil.trace", Trace)
"""What a request keeps: the trace of the access that it is."""


class Tracer:
    """Begins traces, and hands on those that are over."""

    def __init__(
        self,
        *,
        one_in: int,
        trusted: Sequence[IPv4Network | IPv6Network],
        over: Callable[[Trace], None],
    ) -> None:
        """One of `one_in` requests is traced; a `traceparent` counts that comes from a `trusted` network."""
        self._one_in = one_in
        self._trusted = trusted
        self._over = over

    def begin(self, request: web.BaseRequest, client: str, method: str) -> Trace | None:
        """The trace of a request from the address `client`; None where it is not to be traced."""
        given = self._parent(request, client)
        if given is not None:
            trace_id, parent, sampled = given
        else:
            trace_id, parent = os.urandom(16), b""
            sampled = int.from_bytes(trace_id[8:]) % self._one_in == 0
        if not sampled:
            return None
        trace = request[_KEPT] = Trace(trace_id, parent, method)
        return trace

    def end(self, request: web.BaseRequest, status: int) -> None:
        """The answer to a request is out, or nobody is there to take it."""
        trace = request.get(_KEPT)
        if trace is not None and not trace.ended:
            trace.finish(status)
            self._over(trace)

    def _parent(self, request: web.BaseRequest, client: str) -> tuple[bytes, bytes, bool] | None:
        """The trace that a trusted client is in, its span, and whether it is traced there."""
        given = request.headers.getall(TRACEPARENT, ()) if self._trusted else ()
        matched = _PARENT.match(given[0]) if len(given) == 1 else None
        if matched is None or not self._trusts(client):
            return None
        trace_id, parent = bytes.fromhex(matched[1]), bytes.fromhex(matched[2])
        if not any(trace_id) or not any(parent):
            return None
        return trace_id, parent, bool(int(matched[3], 16) & _SAMPLED)

    def _trusts(self, client: str) -> bool:
        try:
            address = ip_address(client)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)
