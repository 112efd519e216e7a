"""`Host` fields and the names that they are held against."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.hosts import Hosts, host_of, is_host, shown

labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12).filter(
    lambda label: label.strip("-") == label
)
names = st.lists(labels, min_size=1, max_size=4).map(".".join)
addresses = st.ip_addresses()


@given(name=names, port=st.none() | st.integers(0, 65535))
def test_a_name_is_served_in_any_case_and_at_any_port(name, port):
    """RFC 9110 §4.2.3: names differ neither by case nor, here, by port."""
    field = name.upper() + ("" if port is None else f":{port}")
    assert host_of(field) == name and host_of(field) in Hosts([name])
    assert is_host(name) and is_host(name.upper())


@given(address=addresses)
def test_an_address_is_one_however_it_is_written(address):
    """RFC 5952: the long form of an address of IPv6 is the address; another one is not."""
    served = Hosts([shown(str(address))])
    assert is_host(shown(str(address)))
    assert host_of(shown(address.exploded)) in served
    other = ipaddress.ip_address(int(address) ^ 1)
    if other.version == address.version:
        assert host_of(shown(str(other))) not in served


@given(name=names, others=st.lists(names))
def test_a_host_that_is_not_listed_is_not_served(name, others):
    """Neither what ends with a name, nor what one ends with."""
    served = Hosts(others)
    assert (name in served) == (name in others)
    assert f"{name}." not in served and f".{name}" not in served


@given(above=names, labels=st.lists(labels, max_size=3))
def test_a_star_stands_for_one_label(above, labels):
    """RFC 9525 §6.3: for one, whole, and the first."""
    assert is_host(f"*.{above}")
    assert (".".join([*labels, above]) in Hosts([f"*.{above}"])) == (len(labels) == 1)
    assert f".{above}" not in Hosts([f"*.{above}"])


@pytest.mark.parametrize(
    "name",
    ["", "*", "*.", "a.*", "*a.b", "https://a", "a:8443", "a/b", "::1", "[::1]:1", "a b", "é", "...", "a\n",
     "*.*.a", "[10.0.0.7"],
)  # fmt: skip
def test_what_is_no_host_cannot_be_listed(name):
    """With a scheme, a port or a path it would be the name of nothing, unseen; `*.` of all, or so."""
    assert not is_host(name) and not Hosts([name])


@given(text=st.text(max_size=20))
def test_what_is_read_as_a_host_can_be_listed(text):
    """The two grammars agree: what a field can say, the settings can."""
    host = host_of(text)
    assert host is None or (is_host(host) and host in Hosts([host]))
