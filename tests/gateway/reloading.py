"""What the tests of reloads look at, and wait for."""

from __future__ import annotations

import time
from collections.abc import Callable

from proxy.access import AccessEvent
from proxy.snapshot import read_folder, version_of
from tests.harness.proxy import Proxy

SOON = 5.0


def soon(holds: Callable[[], object]) -> bool:
    until = time.monotonic() + SOON
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def in_force(proxy: Proxy) -> str:
    return proxy.app.policy.snapshot.version


def follows(proxy: Proxy) -> bool:
    """Whether the policy in force becomes that of the folder."""
    return soon(lambda: in_force(proxy) == version_of(read_folder(proxy.home.policies)))


def loads(proxy: Proxy) -> list[AccessEvent]:
    return [event for event in proxy.events() if event.step.startswith("policy-")]
