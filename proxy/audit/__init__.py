"""The access log: durable events, a query projection that follows them, a directory of names.

log        append an event, get a receipt        (the gateway's side)
writer     the one thread that commits
recover    what a start owes to the run before
follower   the thread that keeps projection and names
projection one row an access
accesses   what readers are given
query      reading, beside a running server
names      opaque subject -> principal, erasable
store      files, schema, SQLite's faults in words
"""

from __future__ import annotations

from proxy.audit.accesses import OUTCOMES, Access, End, Leaf, Past
from proxy.audit.log import AccessLog
from proxy.audit.query import Reader

__all__ = ["OUTCOMES", "Access", "AccessLog", "End", "Leaf", "Past", "Reader"]
