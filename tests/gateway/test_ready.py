"""`/-/ready`: anybody may ask whether the proxy serves, and is told no more than that needs."""

from __future__ import annotations

import json

import pytest

from tests.harness import sales
from tests.harness.proxy import stage


@pytest.fixture
def proxy(tmp_path):
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES) as (_, proxy):
        yield proxy


def ready(proxy):
    answer = proxy.get("/-/ready")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    return answer.status, json.loads(answer.body)


def test_a_policy_that_is_refused_is_told_and_the_last_good_one_serves(proxy):
    """PROMISE 3: stale, by which cause, and the version that decides; 200, and no word of what is wrong."""
    version = proxy.app.gateway.snapshot.version
    good = {"status": "ready", "log": "written", "policy": "in-force", "version": version[:12]}
    good |= {"keys": "in-force", "identity": "known"}
    assert ready(proxy) == (200, good)
    proxy.home.write("policy.csv", sales.RULES + "p, role:canary, sales/canary, read\n")
    assert not proxy.reload()
    assert ready(proxy) == (200, good | {"policy": "stale", "cause": "faulty"})
    assert b"canary" not in proxy.get("/-/ready").raw
    assert str(proxy.home.folder).encode() not in proxy.get("/-/ready").raw
    proxy.home.write("policy.csv", sales.RULES)
    assert proxy.reload()
    assert ready(proxy) == (200, good)


def test_elsewhere_the_status_alone_is_told(tmp_path):
    """Neither which policy decides, nor what is wrong with it."""
    listen = ", balancers: {addresses: [127.0.0.1], forwarded_for: true}, names: [127.0.0.1]"
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES, listen=listen) as (_, proxy):
        for address, much in (("192.0.2.7", False), ("127.0.0.1", True)):
            answer = proxy.get("/-/ready", headers={"X-Forwarded-For": address})
            told = json.loads(answer.body)
            assert (answer.status, told["status"], "version" in told) == (200, "ready", much)
            assert much or len(told) == 1


def test_a_version_that_cannot_be_kept_is_told(proxy):
    """A fault that is not the policy's own is told by its own cause."""
    (proxy.home.folder / "access-policies").rename(proxy.home.folder / "aside")
    (proxy.home.folder / "access-policies").write_text("in the way")
    proxy.home.write("policy.csv", sales.RULES + "# 2\n")
    assert not proxy.reload()
    status, told = ready(proxy)
    assert (status, told["policy"], told["cause"]) == (200, "stale", "not-kept")
