"""Sets of keys: the good ones count, the others do not (THREATS C 29)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.identity.jwks import KeySet
from proxy.identity.strict import Malformed
from tests.identity.material import jwks, key, public

GOOD = public(key("EC"), kid="k")

BAD = [
    {"kty": "oct", "k": "c2VjcmV0", "kid": "b"},
    {"kty": "oct", "k": "c2VjcmV0", "kid": "b", "alg": "ES256"},
    public(key("RSA1024"), kid="b"),
    public(key("EC384"), kid="b"),
    public(key("RSA"), kid="b", use="enc"),
    public(key("RSA"), kid="b", alg="RS512"),
    public(key("RSA"), kid="b", alg="RSA-OAEP"),
    public(key("RSA"), kid="b", key_ops=["encrypt"]),
    public(key("RSA"), kid="b", key_ops="verify"),
    {**public(key("EC"), kid="b"), "d": "AAAA"},
    {**public(key("EC"), kid="b"), "y": public(key("EC", "other"))["y"]},
    {**public(key("EC"), kid="b"), "x": "AAAA"},
    {**public(key("EC"), kid="b"), "x": 1},
    {**public(key("EC"), kid="b"), "crv": "P-384"},
    {**public(key("OKP"), kid="b"), "crv": "Ed448"},
    {**public(key("OKP"), kid="b"), "x": "AAAA"},
    {**public(key("RSA"), kid="b"), "e": "AQ"},
    {**public(key("RSA"), kid="b"), "n": "!!"},
    {**public(key("RSA"), kid="b"), "n": "A" * 3000},
    {"kty": "RSA", "kid": "b"}, {"kty": ["RSA"], "kid": "b"}, {"kid": "b"}, {}, [], None, 1, "x",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_key_is_skipped_and_the_good_ones_of_its_set_work(bad):
    keys = KeySet(jwks(bad, GOOD, bad))
    assert keys.find("k", "ES256") is not None
    assert not any(keys.find("b", name) for name in ("RS256", "PS256", "ES256", "EdDSA", "HS256"))
    with pytest.raises(Malformed):
        KeySet(jwks(bad))


def test_a_key_serves_the_algorithms_of_its_kind_or_the_one_that_it_names():
    every = KeySet(jwks(public(key("RSA"), kid="r"), public(key("OKP"), kid="o"), GOOD))
    found = {
        (kid, name)
        for kid in ("r", "o", "k")
        for name in ("RS256", "PS256", "ES256", "EdDSA")
        if every.find(kid, name)
    }
    assert found == {("r", "RS256"), ("r", "PS256"), ("o", "EdDSA"), ("k", "ES256")}
    named = KeySet(jwks(public(key("RSA"), kid="r", alg="PS256")))
    assert named.find("r", "PS256")
    assert not named.find("r", "RS256")


def test_only_a_set_of_one_key_needs_no_key_id():
    assert KeySet(jwks(GOOD)).find(None, "ES256")
    assert KeySet(jwks(public(key("EC")))).find(None, "ES256")
    assert not KeySet(jwks(GOOD, public(key("EC", "b"), kid="b"))).find(None, "ES256")


def test_two_keys_that_one_id_cannot_tell_apart_do_not_count():
    keys = KeySet(jwks(GOOD, public(key("EC", "b"), kid="k"), public(key("RSA"), kid="k")))
    assert keys.find("k", "ES256") is None
    assert keys.find("k", "RS256")


@given(st.binary(max_size=100) | st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["RSA", "EC", "AQAB", "P-256"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["keys", "kty", "crv", "x", "y", "n", "e", "kid", "use", "alg"]), inner, max_size=6),
    max_leaves=10).map(lambda tree: json.dumps({"keys": [tree]}).encode()))  # fmt: skip
def test_any_bytes_are_a_key_set_or_malformed_and_nothing_else(raw):
    with pytest.raises(Malformed):
        KeySet(raw)
