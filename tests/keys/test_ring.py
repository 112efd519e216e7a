"""The keyring: derived keys, the states of keys and the verbs that change them, and that keys stay inside."""

from __future__ import annotations

import copy
import gc
import hmac
import pickle
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.errors import KeyringError
from proxy.keys import Keyring
from tests.keys.rings import master, seen, three

# ── derived keys ──

LABELS = st.lists(st.text(st.characters(), max_size=6), min_size=1, max_size=4).map(tuple)


@given(LABELS, LABELS)
def test_different_labels_give_different_keys(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Two derived keys are equal only where purpose and context are, however they are cut."""
    keyring = Keyring([master()])
    assert (keyring.derive(*one) == keyring.derive(*other)) == (one == other)


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
    assert keyring.sealing == keyring.naming == "new"
    assert keyring.ids == ("old", "new")
    assert keyring.derive("p") == keyring.derive("p", key_id="new")
    assert keyring.derive("p") != keyring.derive("p", key_id="old")
    with pytest.raises(KeyringError, match="no such key"):
        keyring.derive("p", key_id="other")


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


def test_no_error_repeats_what_was_asked_for() -> None:
    """An id that is none, which may be a key pasted by mistake, is not in the message."""
    canary = "canary" * 10
    for verb in (three().retired, three().turned_to):
        with pytest.raises(KeyringError, match="no such key") as caught:
            verb(canary)
        assert "canary" not in str(caught.value)


def test_keys_go_with_their_keyring() -> None:
    """A keyring that nobody holds is freed at once, with the keys that were derived of it."""
    gc.disable()
    try:
        keyring = Keyring.generate()
        mac = weakref.ref(keyring.keys[0])
        keyring.opaque("user:alice")
        keyring.aead("p")
        del keyring
        assert mac() is None
    finally:
        gc.enable()


# ── states ──


@pytest.mark.parametrize(
    ("states", "sealing", "naming"),
    [
        (("active", "active"), "a", "a"),
        (("active", "active"), "a", ""),
        (("active", "standby"), "a", "b"),
        (("retired", "active"), "a", "b"),
        (("active", "active"), "a", "c"),
        (("standby", "retired"), "", ""),
    ],
)
def test_who_is_active_seals_or_names(states: tuple[str, str], sealing: str, naming: str) -> None:
    """A keyring whose states say otherwise than who seals and names cannot exist."""
    keys = [master(id_, state=state) for id_, state in zip("ab", states, strict=True)]
    with pytest.raises(KeyringError, match="one active"):
        Keyring(keys, sealing=sealing, naming=naming)


def test_one_key_seals_and_another_names() -> None:
    """Ciphertexts are made under the one, all else under the other, where no key is named."""
    keyring = three()
    assert keyring.aead("p").key_id == "three"
    assert keyring.derive("p") == keyring.derive("p", key_id="one")
    assert keyring.mac("p").digest(b"") == keyring.mac("p", key_id="one").digest(b"")
    assert [keyring.does(id_) for id_ in keyring.ids] == ["names", "", "seals"]
    assert Keyring.generate().does(Keyring.generate().ids[0]) == ""


def test_what_is_active_is_not_retired() -> None:
    """A key that seals or names is refused with the verb that helps."""
    with pytest.raises(KeyringError, match=r"three seals, .*keys rotate`"):
        three().retired("three")
    with pytest.raises(KeyringError, match=r"one names, .*keys rotate --names`"):
        three().retired("one")
    with pytest.raises(KeyringError, match="retired already"):
        three().retired("two")
    with pytest.raises(KeyringError, match="retired: it opens"):
        three().turned_to("two")
    with pytest.raises(KeyringError, match=r"three seals already"):
        three().turned_to("three")


def test_lost_keys_are_told() -> None:
    """A key that is gone, that is another, or that is retired no more: and nothing else is lost."""
    keys = {key.id: key for key in three().keys}
    others = {
        "gone": ({**keys, "two": None}, ("two",)),
        "another": ({**keys, "two": master("two", state="retired", secret=b"\x09" * 32)}, ("two",)),
        "revived": ({**keys, "two": master("two", state="standby", secret=b"\x02" * 32)}, ("two",)),
        "more": ({**keys, "four": master("four", state="standby")}, ()),
    }
    for listed, lost in others.values():
        kept = [key for key in listed.values() if key is not None]
        assert Keyring(kept, sealing="three", naming="one").lost(three()) == lost
    assert three().rotated(names=True).retired("one").lost(three()) == ()


class Verbs(RuleBasedStateMachine):
    """Any order of verbs: what must hold after each."""

    def __init__(self) -> None:
        super().__init__()
        self.keyring = Keyring.generate()
        self.sealed: list[tuple[str, bytes]] = []
        self.retired: set[str] = set()

    def aside(self, state: str) -> list[str]:
        return [key.id for key in self.keyring.keys if key.state == state]

    @rule()
    def seal(self) -> None:
        aead = self.keyring.aead("p")
        self.sealed.append((aead.key_id, aead.seal([b"value"], [b"place"])[0]))

    @rule(names=st.booleans())
    def rotate(self, names: bool) -> None:
        before = self.keyring
        self.keyring = before.rotated(names=names)
        (new,) = set(self.keyring.ids) - set(before.ids)
        assert self.keyring.sealing == new
        assert self.keyring.naming == (new if names else before.naming)

    @precondition(lambda self: self.aside("standby"))
    @rule(data=st.data(), names=st.booleans())
    def turn_back(self, data: st.DataObject, names: bool) -> None:
        key_id = data.draw(st.sampled_from(self.aside("standby")))
        self.keyring = self.keyring.turned_to(key_id, names=names)
        assert self.keyring.sealing == key_id

    @precondition(lambda self: self.aside("standby"))
    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        key_id = data.draw(st.sampled_from(self.aside("standby")))
        self.keyring = self.keyring.retired(key_id)
        self.retired.add(key_id)

    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        before = seen(self.keyring)
        key_id = data.draw(st.sampled_from(self.aside("active") + self.aside("retired")))
        with pytest.raises(KeyringError):
            self.keyring.retired(key_id)
        if key_id in self.retired:
            with pytest.raises(KeyringError):
                self.keyring.turned_to(key_id, names=data.draw(st.booleans()))
        assert seen(self.keyring) == before

    @invariant()
    def one_seals_and_one_names(self) -> None:
        assert {self.keyring.sealing, self.keyring.naming} == set(self.aside("active"))

    @invariant()
    def a_retired_key_neither_seals_nor_names(self) -> None:
        assert self.retired == set(self.aside("retired"))
        assert self.keyring.aead("p").key_id not in self.retired
        assert self.keyring.naming not in self.retired

    @invariant()
    def all_that_was_sealed_opens(self) -> None:
        for key_id, sealed in self.sealed:
            assert self.keyring.aead("p", key_id=key_id).open(sealed, b"place") == b"value"


TestVerbs = Verbs.TestCase
