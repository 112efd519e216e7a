"""The primitives: published vectors, and what is seen of Mac and Aead."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ValueRefused
from proxy.keys import Aead, Keyring, Mac, hkdf, prefixed
from tests.keys.rings import master

# ── published vectors ──

HKDF_VECTORS = [  # RFC 5869, A.1 to A.3
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        (
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
            "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
            "cc30c58179ec3e87c14c01d5c1f3434f1d87"
        ),
    ),
    (
        "0b" * 22,
        "",
        "",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]

HMAC_VECTORS = [  # RFC 4231, 4.2 to 4.8 without the truncated 4.6
    (
        b"\x0b" * 20,
        b"Hi There",
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    ),
    (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (
        b"\xaa" * 20,
        b"\xdd" * 50,
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
    ),
    (
        bytes(range(1, 26)),
        b"\xcd" * 50,
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    ),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        (
            b"This is a test using a larger than block-size key and a larger than block-size data. "
            b"The key needs to be hashed before being used by the HMAC algorithm."
        ),
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
]

SIV_KEY = bytes([1]).ljust(32, b"\0")
SIV_NONCE = bytes([3]).ljust(12, b"\0")
SIV_VECTORS = [  # RFC 8452, C.2
    ("", "", "07f5f4169bbf55a8400cd47ea6fd400f"),
    ("0100000000000000", "", "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28"),
    ("0200000000000000", "01", "1de22967237a813291213f267e3b452f02d01ae33e4ec854"),
]


@pytest.mark.parametrize(("secret", "salt", "info", "okm"), HKDF_VECTORS)
def test_hkdf_agrees_with_rfc_5869(secret: str, salt: str, info: str, okm: str) -> None:
    """HKDF-SHA-256 gives the output of RFC 5869's test cases."""
    unhex = bytes.fromhex
    made = hkdf(unhex(secret), salt=unhex(salt), info=unhex(info), length=len(okm) // 2)
    assert made.hex() == okm


@pytest.mark.parametrize(("key", "data", "tag"), HMAC_VECTORS)
def test_mac_agrees_with_rfc_4231(key: bytes, data: bytes, tag: str) -> None:
    """HMAC-SHA-256 gives the tags of RFC 4231's test cases, whole and byte by byte."""
    mac = Mac(key)
    running = mac.start()
    for at in range(len(data)):
        running.update(data[at : at + 1])
    assert mac.hexdigest(data) == mac.digest(data).hex() == running.finalize().hex() == tag


@pytest.mark.parametrize(("plaintext", "associated", "sealed"), SIV_VECTORS)
def test_aead_agrees_with_rfc_8452(plaintext: str, associated: str, sealed: str) -> None:
    """AES-256-GCM-SIV opens the ciphertexts of RFC 8452's test cases."""
    opened = Aead(SIV_KEY, "k").open(SIV_NONCE + bytes.fromhex(sealed), bytes.fromhex(associated))
    assert opened.hex() == plaintext


def vectors(name: str) -> list[dict]:
    """Read a Wycheproof file: its tests, each with its group's parameters."""
    root = os.environ.get("COUNTERFOIL_CORPORA")
    if not root:
        pytest.skip("COUNTERFOIL_CORPORA is not set: no Wycheproof vectors")
    found = next(Path(root).glob(f"**/testvectors_v1/{name}"), Path(root) / name)
    if not found.is_file():
        pytest.skip(f"COUNTERFOIL_CORPORA holds no {name}")
    groups = json.loads(found.read_text())["testGroups"]
    return [{**group, **test} for group in groups for test in group["tests"]]


def test_hkdf_agrees_with_wycheproof() -> None:
    """HKDF-SHA-256 gives every valid Wycheproof output and refuses every invalid request."""
    for case in vectors("hkdf_sha256_test.json"):
        secret, salt, info = (bytes.fromhex(case[each]) for each in ("ikm", "salt", "info"))
        if case["result"] == "invalid":
            with pytest.raises(ValueError, match="larger than"):
                hkdf(secret, salt=salt, info=info, length=case["size"])
        else:
            made = hkdf(secret, salt=salt, info=info, length=case["size"])
            assert made.hex() == case["okm"], case["tcId"]


def test_mac_agrees_with_wycheproof() -> None:
    """HMAC-SHA-256 makes every valid Wycheproof tag and no invalid one."""
    for case in vectors("hmac_sha256_test.json"):
        tag = Mac(bytes.fromhex(case["key"])).digest(bytes.fromhex(case["msg"]))
        made = tag[: case["tagSize"] // 8].hex()
        assert (made == case["tag"]) == (case["result"] == "valid"), case["tcId"]


def test_aead_agrees_with_wycheproof() -> None:
    """AES-256-GCM-SIV opens every valid Wycheproof case and refuses every invalid one."""
    seen = 0
    for case in vectors("aes_gcm_siv_test.json"):
        if case["keySize"] != 256 or case["ivSize"] != 96:
            continue
        seen += 1
        aead = Aead(bytes.fromhex(case["key"]), "k")
        sealed = bytes.fromhex(case["iv"] + case["ct"] + case["tag"])
        if case["result"] == "valid":
            assert aead.open(sealed, bytes.fromhex(case["aad"])).hex() == case["msg"], case["tcId"]
        else:
            with pytest.raises(ValueRefused):
                aead.open(sealed, bytes.fromhex(case["aad"]))
    assert seen > 50


@given(st.lists(st.binary(max_size=6), max_size=4), st.lists(st.binary(max_size=6), max_size=4))
def test_prefixed_tells_parts_apart(one: list[bytes], other: list[bytes]) -> None:
    """Joined parts are equal only where the parts are."""
    assert (prefixed(*one) == prefixed(*other)) == (one == other)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_mac_is_hmac(key: bytes, data: bytes) -> None:
    """A Mac agrees with the standard library's HMAC, and using it leaves it unchanged."""
    mac = Mac(key)
    mac.digest(b"something before")
    assert mac.digest(data) == hmac.new(key, data, hashlib.sha256).digest()


# ── authenticated encryption ──


@given(st.lists(st.tuples(st.binary(max_size=50), st.binary(max_size=50)), max_size=5))
def test_sealed_values_open(pairs: list[tuple[bytes, bytes]]) -> None:
    """What is sealed opens with the same associated data, and no two sealings are equal."""
    aead = Keyring([master()]).aead("test")
    sealed = aead.seal([plain for plain, _ in pairs], [bound for _, bound in pairs])
    assert [aead.open(s, bound) for s, (_, bound) in zip(sealed, pairs, strict=True)] == [
        plain for plain, _ in pairs
    ]
    again = aead.seal([plain for plain, _ in pairs], [bound for _, bound in pairs])
    assert len({*sealed, *again}) == 2 * len(pairs)


def test_altered_sealed_values_do_not_open() -> None:
    """One bit changed anywhere, a byte more or less, or other associated data: refused."""
    aead = Keyring([master()]).aead("test")
    (sealed,) = aead.seal([b"plaintext"], [b"place"])
    changed = [
        sealed[:at] + bytes([sealed[at] ^ 1 << bit]) + sealed[at + 1 :]
        for at in range(len(sealed))
        for bit in range(8)
    ]
    cut = [sealed[:at] for at in range(len(sealed))]
    for wrong in [*changed, *cut, sealed + b"\0", b"\0" + sealed]:
        with pytest.raises(ValueRefused):
            aead.open(wrong, b"place")
    with pytest.raises(ValueRefused):
        aead.open(sealed, b"elsewhere")
    with pytest.raises(ValueRefused):
        Keyring([master()]).aead("another").open(sealed, b"place")


def test_seal_wants_associated_data_for_each() -> None:
    """A plaintext without its associated data is not sealed."""
    with pytest.raises(ValueError, match="associated"):
        Keyring([master()]).aead("test").seal([b"a", b"b"], [b""])
