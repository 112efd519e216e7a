"""FF1: published vectors, and columns of values against one value at a time."""

from __future__ import annotations

import copy
import gzip
import json
import os
import pickle
import string
from pathlib import Path

import ffx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ff1 import FEW, SMALLEST_DOMAIN, Ff1

NIST = json.loads((Path(__file__).parent / "vectors" / "nist_ff1.json").read_text())["cases"]
KEY = bytes(range(32))
BASE_36 = string.digits + string.ascii_lowercase
ALPHABETS = st.sampled_from(
    ["01", string.digits, string.ascii_uppercase, BASE_36, string.digits + string.ascii_letters]
)


def length_of(alphabet: str, most: int) -> st.SearchStrategy[int]:
    """Lengths of strings with a domain that is large enough."""
    least = next(n for n in range(2, 64) if len(alphabet) ** n >= SMALLEST_DOMAIN)
    return st.integers(least, most)


@st.composite
def columns(draw: st.DrawFn) -> tuple[str, list[str], list[bytes]]:
    """An alphabet, strings of one length, short and long, and a tweak for each."""
    alphabet = draw(ALPHABETS)
    length = draw(length_of(alphabet, 40))
    size = draw(st.integers(1, 2 * FEW))
    strings = st.text(alphabet, min_size=length, max_size=length)
    tweak = draw(st.integers(0, 17))
    tweaks = st.binary(min_size=tweak, max_size=tweak)
    return (
        alphabet,
        draw(st.lists(strings, min_size=size, max_size=size)),
        draw(st.lists(tweaks, min_size=size, max_size=size)),
    )


@st.composite
def ranks(draw: st.DrawFn) -> tuple[list[int], list[int], list[bytes]]:
    """Numbers below domains of as many bits, and a tweak for each."""
    bits = draw(st.integers(20, 130))
    domains = st.integers(max(SMALLEST_DOMAIN, (1 << bits - 1) + 1), 1 << bits)
    cases = draw(
        st.lists(st.tuples(domains, st.binary(min_size=8, max_size=8)), min_size=1, max_size=40)
    )
    numbers = [draw(st.integers(0, domain - 1)) for domain, _ in cases]
    return numbers, [domain for domain, _ in cases], [tweak for _, tweak in cases]


@pytest.mark.parametrize("case", NIST, ids=[str(n + 1) for n in range(len(NIST))])
@pytest.mark.parametrize("height", [1, FEW])
def test_ff1_agrees_with_nist(case: dict, height: int) -> None:
    """NIST's samples come out, alone and as a column, and back."""
    cipher = Ff1(bytes.fromhex(case["key"]))
    plain, sealed = [case["plaintext"]] * height, [case["ciphertext"]] * height
    alphabet, tweaks = BASE_36[: case["radix"]], [bytes.fromhex(case["tweak"])] * height
    assert cipher.strings(plain, alphabet=alphabet, tweaks=tweaks) == sealed
    assert cipher.strings(sealed, alphabet=alphabet, tweaks=tweaks, back=True) == plain


@pytest.mark.parametrize("name", ["base10", "base36"])
@pytest.mark.parametrize("height", [1, FEW])
def test_ff1_agrees_with_wycheproof(name: str, height: int) -> None:
    """Every valid Wycheproof case over a domain that is large enough comes out; every other raises."""
    root = os.environ.get("COUNTERFOIL_CORPORA")
    if not root:
        pytest.skip("COUNTERFOIL_CORPORA is not set: no Wycheproof vectors")
    file = next(Path(root).glob(f"**/aes_ff1_{name}_test.json.gz"))
    seen = 0
    for group in json.loads(gzip.decompress(file.read_bytes()))["testGroups"]:
        for case in group["tests"]:
            place = {
                "alphabet": group["alphabet"],
                "tweaks": [bytes.fromhex(case["tweak"])] * height,
            }
            plain, sealed = [case["msg"]] * height, [case["ct"]] * height
            small = group["radix"] ** len(case["msg"]) < SMALLEST_DOMAIN
            if case["result"] == "invalid" or small:
                with pytest.raises(ValueError, match=r"."):
                    Ff1(bytes.fromhex(case["key"])).strings(plain, **place)
                continue
            seen += 1
            cipher = Ff1(bytes.fromhex(case["key"]))
            assert cipher.strings(plain, **place) == sealed, case["tcId"]
            assert cipher.strings(sealed, **place, back=True) == plain, case["tcId"]
    assert seen > 2000


@given(columns())
def test_columns_of_strings_agree_with_libffx(column: tuple[str, list[str], list[bytes]]) -> None:
    """A column gives what libffx gives of each string by itself, and goes back."""
    alphabet, texts, tweaks = column
    one = ffx.FF1(KEY, alphabet=alphabet)
    sealed = Ff1(KEY).strings(texts, alphabet=alphabet, tweaks=tweaks)
    assert sealed == [one.encrypt(t, tweak=w) for t, w in zip(texts, tweaks, strict=True)]
    assert Ff1(KEY).strings(sealed, alphabet=alphabet, tweaks=tweaks, back=True) == texts


@given(ranks())
def test_columns_of_numbers_agree_with_libffx(
    column: tuple[list[int], list[int], list[bytes]],
) -> None:
    """A column gives what libffx gives of each number by itself, below its domain, and goes back."""
    numbers, domains, tweaks = column
    one = ffx.FF1(KEY)
    cases = zip(numbers, domains, tweaks, strict=True)
    sealed = Ff1(KEY).numbers(numbers, domains=domains, tweaks=tweaks)
    assert sealed == [one.encrypt_int(n, domain=d, tweak=w) for n, d, w in cases]
    assert Ff1(KEY).numbers(sealed, domains=domains, tweaks=tweaks, back=True) == numbers


@pytest.mark.parametrize("height", [1, FEW])
def test_what_has_no_place_in_a_domain_is_refused(height: int) -> None:
    """A small domain, a character outside of the alphabet, a number outside of the domain: ValueError."""
    cipher, tweaks = Ff1(KEY), [b""] * height
    for texts in (["12345"] * height, ["1234567x"] * height):
        with pytest.raises(ValueError, match=r"domain|alphabet"):
            cipher.strings(texts, alphabet=string.digits, tweaks=tweaks)
    for number, domain in ((1, SMALLEST_DOMAIN - 1), (10**6, 10**6), (-1, 10**6)):
        with pytest.raises(ValueError, match=r"domain|outside"):
            cipher.numbers([number] * height, domains=[domain] * height, tweaks=tweaks)


@pytest.mark.prove
def test_every_number_of_a_domain_is_given_once() -> None:
    """Over all of the smallest domain FF1 is a permutation."""
    numbers = range(SMALLEST_DOMAIN)
    tweaks = [b""] * len(numbers)
    given_ = Ff1(KEY).numbers(numbers, domains=[len(numbers)] * len(numbers), tweaks=tweaks)
    assert sorted(given_) == [*numbers]


def test_nothing_is_nothing() -> None:
    """A column without values gives none."""
    assert Ff1(KEY).strings([], alphabet=string.digits, tweaks=[]) == []
    assert Ff1(KEY).numbers([], domains=[], tweaks=[]) == []


def test_a_cipher_is_not_copied() -> None:
    """What holds a key shows none and is not pickled or copied."""
    cipher = Ff1(KEY)
    assert KEY.hex() not in repr(cipher) and repr(KEY)[2:-1] not in repr(cipher)
    for spread in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="key"):
            spread(cipher)
