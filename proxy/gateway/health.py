"""What health checks are told: whether the process lives, and whether it can serve."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from proxy.front import is_loopback
from proxy.gateway import Gateway

LIVE: Final = "/-/live"
READY: Final = "/-/ready"
_SHORT: Final = 12


class Readiness(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What `/-/ready` tells: never a file, a place in one, or what it holds.

    All of it to whoever asks on the proxy's own machine, to everybody else the status alone.
    """

    status: Literal["ready", "not-ready"]
    log: Literal["written", "failing"]
    """Whether accesses can be put on record. Without that nothing is released: `not-ready`."""
    policy: Literal["in-force", "stale"]
    """`stale`: the folder's policy was refused, and the last good one goes on deciding."""
    version: str
    """The beginning of the hash of the policy in force."""
    cause: str = ""
    """Why the folder's policy was refused, of `reload.CAUSES`."""
    keys: Literal["in-force", "stale"]
    """`stale`: the keyring's file was refused, and the last good one goes on."""
    keys_cause: str = ""
    """Why, of `rotation.CAUSES`."""
    identity: Literal["known", "unknown"]
    """`unknown`: no issuer's keys were had yet, or none within its `outage_seconds`, so that no token can be
    told to be good: `not-ready`. An issuer that does not answer while its keys are known changes nothing."""
    stores_left_alone: int = 0
    """How many stores have failed and are not asked now; which, the metrics tell. It changes nothing here:
    reports of all others are served."""


def told(ready: Readiness, address: str, *, foreign: bool) -> bytes:
    """What a client at that address is told, as JSON.

    `foreign`: it asks for a host that is none of the proxy's, as a browser does there whose page has had its
    own name resolved to this machine.
    """
    whole: object = ready if is_loopback(address) and not foreign else {"status": ready.status}
    return msgspec.json.encode(whole) + b"\n"


def readiness(gateway: Gateway) -> Readiness:
    """What is so now."""
    return Readiness(
        status="ready" if gateway.healthy and gateway.knows_keys else "not-ready",
        log="written" if gateway.healthy else "failing",
        policy="stale" if gateway.stale else "in-force",
        version=gateway.snapshot.version[:_SHORT],
        cause=gateway.stale,
        keys="stale" if gateway.keys_stale else "in-force",
        keys_cause=gateway.keys_stale,
        identity="known" if gateway.knows_keys else "unknown",
        stores_left_alone=sum(each.breaker.state != "closed" for each in gateway.stores),
    )
