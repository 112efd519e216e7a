"""The access log: durable events, a query projection that follows them, a directory of names.

log        append an event, get a receipt        (the gateway's side)
writer     the one thread that commits
ledger     where it does: this process's log      locks      what other processes know of it
keeper     which process does what one does alone
recover    what a start owes to the run before
follower   the thread that keeps projection and names
projection the index, which follows the leaves
merging    … one row an access       facets   … by what it is found, and what is counted
accesses   what readers are given
asked      what is asked of accesses, in words of SQL      finding   … found by the index
stats      what is counted of them
query      reading, beside a running server
names      opaque subject -> principal, erasable
verify     whether a log is whole, stretch by stretch (looking)      verdict    … and all its files
verifying  a look that the server takes by itself
export     delivering events to receivers, as ocsf has them or as they are stored
store      files, schema, SQLite's faults in words
"""

from __future__ import annotations

from proxy.audit.accesses import OUTCOMES, Access, End, Leaf, Past
from proxy.audit.asked import Asked
from proxy.audit.log import AccessLog
from proxy.audit.query import Reader
from proxy.audit.stats import Stats

__all__ = ["OUTCOMES", "Access", "AccessLog", "Asked", "End", "Leaf", "Past", "Reader", "Stats"]
