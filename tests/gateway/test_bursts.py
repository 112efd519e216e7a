"""Who is counted as one where refusals are coalesced."""

from __future__ import annotations

import pytest

from proxy.gateway.bursts import Bursts


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_a_host_has_one_allowance_whatever_address_it_takes(address, key):
    """An IPv6 host has 2**64 addresses to choose from: its network is counted, not each of them."""
    assert Bursts().key(address) == key


def test_one_network_of_ipv6_cannot_fill_the_log():
    """10,000 addresses of one network have no more refusals of their own than one address has."""
    bursts = Bursts()
    keys = [bursts.key(f"2001:db8::{n:x}") for n in range(10_000)]
    assert sum(not bursts.exceeds(key, 0.0) for key in keys) == bursts.capacity
