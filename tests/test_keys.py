"""The keyring: vectors of its primitives, its file, and that keys stay inside."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import KeyringError, ValueRefused
from proxy.keys import Aead, Keyring, Mac, MasterKey, hkdf, kek_from, prefixed

KEK = bytes(range(32))


def master(id_: str = "k1", *, state: str = "active", secret: bytes = b"\x07" * 32) -> MasterKey:
    return MasterKey(id=id_, created="2026-11-23T22:58:40Z", state=state, secret=secret)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyring.json"


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
    assert mac.hexdigest(data) == mac.digest(data).hex() == running.hexdigest() == tag


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


# ── derived keys ──

LABELS = st.lists(st.text(st.characters(), max_size=6), min_size=1, max_size=4).map(tuple)


@given(LABELS, LABELS)
def test_different_labels_give_different_keys(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Two derived keys are equal only where purpose and context are, however they are cut."""
    keyring = Keyring([master()])
    assert (keyring.derive(*one) == keyring.derive(*other)) == (one == other)


@given(st.lists(st.binary(max_size=6), max_size=4), st.lists(st.binary(max_size=6), max_size=4))
def test_prefixed_tells_parts_apart(one: list[bytes], other: list[bytes]) -> None:
    """Joined parts are equal only where the parts are."""
    assert (prefixed(*one) == prefixed(*other)) == (one == other)


def test_derived_key_is_stable() -> None:
    """A derived key is HKDF of the master key with length-prefixed labels, today and for ever."""
    info = b"".join(
        len(part).to_bytes(4, "big") + part
        for part in (b"counterfoil/v1", b"pseudonym", b"field", "Ä".encode())
    )
    pseudo_random = hmac.digest(bytes(32), b"\x07" * 32, "sha256")
    expected = hmac.digest(pseudo_random, info + b"\x01", "sha256")
    assert Keyring([master()]).derive("pseudonym", "field", "Ä") == expected


def test_another_key_id_derives_another_key() -> None:
    """Retired keys derive too, each its own; the active one is used where none is named."""
    keyring = Keyring([master("old", state="retired", secret=b"\x01" * 32), master("new")])
    assert keyring.current == "new"
    assert keyring.ids == ("old", "new")
    assert keyring.derive("p") == keyring.derive("p", key_id="new")
    assert keyring.derive("p") != keyring.derive("p", key_id="old")
    with pytest.raises(KeyringError, match="no such key"):
        keyring.derive("p", key_id="other")


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


# ── the file ──


def test_created_keyring_opens_again(path: Path) -> None:
    """A created keyring opens with its KEK to the same keys, and its file is the owner's alone."""
    created = Keyring.create(path, KEK)
    opened = Keyring.open(path, KEK)
    assert opened.current == created.current
    assert opened.derive("p", "c") == created.derive("p", "c")
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_retired_keys_are_kept(path: Path) -> None:
    """A keyring of several keys comes back whole."""
    keyring = Keyring([master("old", state="retired", secret=b"\x01" * 32), master("new")])
    keyring.save(path, KEK)
    opened = Keyring.open(path, KEK)
    assert opened.ids == ("old", "new")
    for id_ in opened.ids:
        assert opened.derive("p", key_id=id_) == keyring.derive("p", key_id=id_)


def test_create_never_overwrites(path: Path) -> None:
    """An existing file, a dangling link too, is left as it is and nothing stays behind."""
    Keyring.create(path, KEK)
    before = path.read_bytes()
    with pytest.raises(KeyringError, match="exists"):
        Keyring.create(path, KEK)
    assert path.read_bytes() == before
    link = path.with_name("link")
    link.symlink_to(path.with_name("nowhere"))
    with pytest.raises(KeyringError, match="exists"):
        Keyring.create(link, KEK)
    assert sorted(each.name for each in path.parent.iterdir()) == ["keyring.json", "link"]


def test_create_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """A folder that is not there is told, not made."""
    with pytest.raises(KeyringError, match="cannot be written"):
        Keyring.create(tmp_path / "none" / "keyring.json", KEK)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_keyring_open_to_others_is_refused(path: Path, mode: int) -> None:
    """A file that its group or the world can touch is not opened."""
    Keyring.create(path, KEK)
    path.chmod(mode)
    with pytest.raises(KeyringError, match="open to others"):
        Keyring.open(path, KEK)


def test_wrong_kek_is_refused_without_detail(path: Path) -> None:
    """Another KEK gives one message that tells nothing of key or file."""
    Keyring.create(path, KEK)
    with pytest.raises(KeyringError, match="does not open under this key") as caught:
        Keyring.open(path, b"\xff" * 32)
    assert caught.value.__cause__ is None
    with pytest.raises(KeyringError, match="32 bytes"):
        Keyring.open(path, b"short")


def test_every_part_of_an_entry_is_bound(path: Path) -> None:
    """An id, a date, a state or a sealed key that was changed or swapped does not open."""
    keys = [master("one"), master("two", state="retired", secret=b"\x01" * 32)]
    Keyring(keys).save(path, KEK)
    for entry, name, value in (
        (0, "id", "three"),
        (0, "created", "2020-01-01T00:00:00Z"),
        (1, "state", "active"),
        (1, "sealed", json.loads(path.read_text())["keys"][0]["sealed"]),
        (0, "sealed", "!"),
        (0, "sealed", ""),
        (0, "sealed", base64.b64encode(bytes(12)).decode()),
    ):
        document = json.loads(path.read_text())
        document["keys"][entry][name] = value
        changed = path.with_name("changed.json")
        changed.write_text(json.dumps(document))
        changed.chmod(0o600)
        with pytest.raises(KeyringError):
            Keyring.open(changed, KEK)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"version":2,"keys":[]}',
        '{"version":1,"keys":[]}',
        '{"version":1,"keys":[],"more":1}',
        '{"version":1,"keys":[{"id":"a"}]}',
        '{"version":1,"keys":' + "[" * 100_000,
        "\xff",
    ],
)
def test_what_is_no_keyring_is_refused(path: Path, content: str) -> None:
    """A file of another form is a KeyringError, whatever is in it."""
    path.write_text(content, encoding="latin-1")
    path.chmod(0o600)
    with pytest.raises(KeyringError):
        Keyring.open(path, KEK)


def test_special_files_are_refused(tmp_path: Path) -> None:
    """A folder, a FIFO, a file that is missing or too large: an error at once, never a wait."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    large = tmp_path / "large"
    large.write_bytes(b" " * (1 << 20) + b"x")
    large.chmod(0o600)
    for wrong in (tmp_path, fifo, large, tmp_path / "missing"):
        with pytest.raises(KeyringError):
            Keyring.open(wrong, KEK)


def test_a_keyring_has_one_active_key_and_distinct_ids() -> None:
    """No active key, two of them, an id twice, or a malformed id or key cannot exist."""
    for keys in ([], [master(state="retired")], [master("a"), master("b")]):
        with pytest.raises(KeyringError, match="one active"):
            Keyring(keys)
    with pytest.raises(KeyringError, match="one id"):
        Keyring([master(), master(state="retired")])
    for id_ in ("", "A", "a.b", "a/b", "a\n", "-a", "a" * 33):
        with pytest.raises(KeyringError, match="key id"):
            master(id_)
    with pytest.raises(KeyringError, match="32 bytes"):
        master(secret=b"short")


# ── secrets stay inside ──


def test_no_key_is_shown_or_copied() -> None:
    """Neither repr nor str holds a key, and nothing that holds one is pickled or copied."""
    secret = b"\x07canary-of-a-master-key-000000000"[:32]
    keyring = Keyring([master(secret=secret)])
    derived = keyring.derive("p")
    for holder in (keyring, master(secret=secret), keyring.mac("p"), keyring.aead("p")):
        for shown in (repr(holder), str(holder), f"{holder}"):
            for key in (secret, derived):
                assert key.hex() not in shown
                assert repr(key)[2:-1] not in shown
            assert "canary" not in shown
        for spread in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="keys"):
                spread(holder)


# ── the key-encryption key ──


@pytest.mark.parametrize(
    "written",
    [
        KEK.hex(),
        KEK.hex().upper(),
        base64.b64encode(KEK).decode(),
        base64.urlsafe_b64encode(KEK).decode(),
        f"  {KEK.hex()}\n",
    ],
)
def test_kek_is_read_as_hex_or_base64(tmp_path: Path, written: str) -> None:
    """32 bytes as hex or base64, from the environment or a private file."""
    assert kek_from("env:KEK", {"KEK": written}) == KEK
    file = tmp_path / "kek"
    file.write_text(written)
    file.chmod(0o600)
    assert kek_from(f"file:{file}", {}) == KEK


def test_kek_base64_of_either_alphabet() -> None:
    """Standard and URL-safe base64 are both read, with every character of their alphabets."""
    key = bytes([0xFB, 0xEF, 0xBE] * 10 + [0xFF, 0xFF])
    for written in (base64.b64encode(key), base64.urlsafe_b64encode(key)):
        assert kek_from("env:K", {"K": written.decode()}) == key


@pytest.mark.parametrize(
    ("spec", "environment"),
    [
        ("env:KEK", {}),
        ("env:KEK", {"KEK": ""}),
        ("env:KEK", {"KEK": "canary"}),
        ("env:KEK", {"KEK": "canarycanary" * 4}),
        ("env:KEK", {"KEK": KEK.hex()[:-2]}),
        ("env:KEK", {"KEK": "\u00e9" * 64}),
        ("env:", {"": KEK.hex()}),
        ("file:", {}),
        ("file:/nonexistent/kek", {}),
        (KEK.hex(), {}),
        ("", {}),
    ],
)
def test_wrong_kek_is_refused_untold(spec: str, environment: dict[str, str]) -> None:
    """What is no KEK is refused by the name of its place, never by what stands there."""
    with pytest.raises(KeyringError) as caught:
        kek_from(spec, environment)
    text = str(caught.value)
    assert "canary" not in text
    assert KEK.hex() not in text


def test_kek_file_open_to_others_is_refused(tmp_path: Path) -> None:
    """A key file that others can read is refused."""
    file = tmp_path / "kek"
    file.write_text(KEK.hex())
    file.chmod(0o644)
    with pytest.raises(KeyringError, match="open to others"):
        kek_from(f"file:{file}", {})
