"""`tokenise`: a value's own form, equality where it is stated, and the way back."""

from __future__ import annotations

import hashlib
import itertools
import string
from collections import Counter

import ffx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ValueRefused
from proxy.keys import Keyring, MasterKey
from proxy.treatments import detokenise, parse
from proxy.treatments.shapes import ALPHABETS, LONGEST
from proxy.values import Type
from tests.reference.forms import SEPARATORS, places

ASCII = string.ascii_letters + string.digits + SEPARATORS
TEXTS = st.text(ASCII, max_size=20) | st.from_regex(
    r"[A-Z]{2}-[0-9]{4}-[0-9]{2}|[0-9]{4}( [0-9]{4}){3}|[a-z]{5}[0-9]{2}@[a-z]{6}\.com",
    fullmatch=True,
)
COLUMNS = st.lists(TEXTS, max_size=60)
FORMS = st.sampled_from(ALPHABETS)
INTEGERS = st.integers(-(10**36) + 1, 10**36 - 1) | st.integers(10**6, 10**8)


def form(alphabet: str) -> str:
    return f"tokenise(alphabet='{alphabet}')"


def domain(text: str, alphabet: str, *, integer: bool = False) -> int:
    """How many values have the text's form; 0 where it has none."""
    found = places(text, alphabet, first_digit=integer)
    size = 1
    for place in found or ():
        size *= len(place)
    return size if found is not None else 0


@given(COLUMNS, FORMS)
def test_a_token_has_the_form_of_its_value_and_goes_back(apply, site, texts, alphabet):
    """Kind for kind and separator for separator; null exactly where fewer than 10**6 have the form."""
    for text, token in zip(texts, apply(form(alphabet), texts), strict=True):
        if domain(text, alphabet) < 10**6:
            assert token is None
        else:
            found = places(text, alphabet, first_digit=False)
            assert len(token) == len(text)
            assert all(c in place for c, place in zip(token, found, strict=True))
            assert detokenise(parse(form(alphabet)), token, site(), key_id=None) == text


@given(st.lists(INTEGERS, max_size=40), st.sampled_from(["pattern", "digits"]))
def test_a_token_of_an_integer_is_one(apply, site, numbers, alphabet):
    """It has as many digits and the sign; null below seven digits; it goes back to the number."""
    cells = [str(number) for number in numbers]
    for cell, token in zip(cells, apply(form(alphabet), cells, Type.INTEGER), strict=True):
        if domain(cell, alphabet, integer=True) < 10**6:
            assert token is None and len(cell.strip("-")) < 7
        else:
            assert str(int(token)) == token and len(token) == len(cell)
            assert (int(token) < 0) == (int(cell) < 0)
            back = detokenise(parse(form(alphabet)), token, site(Type.INTEGER), key_id=None)
            assert back == cell


def test_equal_numbers_have_equal_tokens(apply):
    """Zeros and a sign that change nothing of an integer change nothing of its token."""
    one, *others = apply("tokenise", ["1234567", "+1234567", "001234567"], Type.INTEGER)
    assert others == [one, one]
    one, other = apply("tokenise(alphabet='upper')", ["2191", "002191"], Type.INTEGER)
    assert one == other


def test_an_integer_may_become_a_text(apply, site):
    """Letters give short numbers a token, and what does not come back as an integer is refused."""
    wide = parse("tokenise(alphabet='upper')")
    assert wide.gives(Type.INTEGER) is Type.TEXT
    (token,) = apply(wide, ["2191"], Type.INTEGER)
    assert len(token) == 4
    assert detokenise(wide, token, site(Type.INTEGER), key_id=None) == "2191"
    refused = 0
    for last in string.digits + string.ascii_uppercase:
        try:
            detokenise(wide, token[:-1] + last, site(Type.INTEGER), key_id=None)
        except ValueRefused:
            refused += 1
    assert refused > 30


@given(COLUMNS, FORMS)
def test_equal_values_have_equal_tokens_and_others_others(apply, texts, alphabet):
    """Tokens are equal exactly where values are, alone or in a column of any order."""
    tokens = dict(zip(texts, apply(form(alphabet), texts), strict=True))
    some = [token for token in tokens.values() if token is not None]
    assert len(set(some)) == len(some)
    assert dict(zip(texts[::-1], apply(form(alphabet), texts[::-1]), strict=True)) == tokens
    for text in texts[:3]:
        assert apply(form(alphabet), [text]) == [tokens[text]]


@pytest.mark.parametrize(
    "text",
    [
        *("", "50309", "ABCD", "abc-d", "A-1-B-2", "AB-12-é7", "1234567\n", "١٢٣٤٥٦٧"),
        *(
            "x" * (LONGEST + 1),
            "----------",
            "AB-1234-77\x7f",
            "AB-1234-77\x01",
            "１２３４５６７８",
        ),
    ],
)
def test_what_has_no_token_is_null(apply, site, text):
    """Too few values of the form, too long, or a character that nobody tokenises: never in clear."""
    assert apply("tokenise", [text]) == [None]
    with pytest.raises(ValueRefused) as caught:
        detokenise(parse("tokenise"), text, site(), key_id=None)
    assert not text or text not in str(caught.value)


def test_letters_are_null_where_digits_are_asked_for(apply):
    """A letter that the alphabet does not have takes the token away; it does not stand still."""
    assert apply("tokenise(alphabet='digits')", ["A12345678"]) == [None]
    assert apply("tokenise(alphabet='upper')", ["ab12345678"]) == [None]
    assert apply("tokenise(alphabet='lower')", ["AB12345678"]) == [None]


def test_leading_zeros_stay(apply, site):
    """A text of digits has as many afterwards, whether they begin with zeros or not."""
    cells = [f"{n:09d}" for n in range(300)]
    tokens = apply("tokenise", cells)
    assert {len(token) for token in tokens} == {9}
    assert any(token.startswith("0") for token in tokens)


@pytest.mark.threat("G61")
@pytest.mark.parametrize("changed", ["report", "purpose", "field", "keyring"])
def test_no_join_unless_stated(apply, site, changed):
    """Another report, purpose, field or keyring gives other tokens; another subject the same."""
    values = ["AB-1234-77", "CD-1234-77"]
    usual = apply("tokenise", values)
    place = {changed: Keyring.generate() if changed == "keyring" else "g"}
    elsewhere = [parse("tokenise").tokens(site(**place)).made([value])[0] for value in values]
    assert not set(usual) & set(elsewhere)
    assert apply("tokenise", values, subject="user:bob") == usual


@pytest.mark.threat("G61")
def test_a_named_domain_joins(apply):
    """A shared domain gives equal tokens across reports, purposes and alphabets of one kind."""
    values = ["12345678", "87654321"]
    shared = apply("tokenise(domain='licences')", values)
    elsewhere = apply(
        "tokenise(alphabet='digits', domain='licences')", values, report="other", purpose="audit"
    )
    assert elsewhere == shared
    assert not set(shared) & set(apply("tokenise(domain='accounts')", values))
    assert not set(shared) & set(apply("tokenise", values))


def test_each_form_has_a_permutation_of_its_own(apply):
    """What differs in separators alone has tokens that differ in more."""
    one, other, third = apply("tokenise", ["AB-1234-77", "AB-123477", "A-B1234-77"])
    assert len({token.replace("-", "") for token in (one, other, third)}) == 3


def test_a_token_goes_back_under_the_key_that_made_it(apply, site):
    """After a rotation the id of the former key opens former tokens; an unknown id is refused."""
    former = MasterKey(id="former", created="", state="active", secret=b"\x01" * 32)
    (token,) = apply("tokenise", ["AB-1234-77"], keyring=Keyring([former]))
    retired = MasterKey(id="former", created="", state="retired", secret=b"\x01" * 32)
    active = MasterKey(id="active", created="", state="active", secret=b"\x02" * 32)
    here = site(keyring=Keyring([retired, active]))
    assert detokenise(parse("tokenise"), token, here, key_id="former") == "AB-1234-77"
    assert detokenise(parse("tokenise"), token, here, key_id=None) != "AB-1234-77"
    with pytest.raises(ValueRefused, match="no such key"):
        detokenise(parse("tokenise"), token, here, key_id="other")


@pytest.mark.parametrize(
    "cell", ["+1234567", "01234567", "1234567 ", "123456", "0", "-0", "A123456", ""]
)
def test_what_is_no_token_of_an_integer_is_refused(site, cell):
    """An integer's token is written as one, with seven digits or more."""
    with pytest.raises(ValueRefused):
        detokenise(parse("tokenise"), cell, site(Type.INTEGER), key_id=None)


def test_it_is_ff1(apply, site):
    """A token is FF1 over the characters of one kind in their radix, else over the rank, in radix 2."""
    key = site().keyring.derive("tokenise", "field", "sales", "", "f")

    def tweak(kind, shape):
        parts = [each.encode() for each in ("field", "sales", "", "f", kind, shape)]
        joined = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hashlib.sha256(joined).digest()[:8]

    digits = ffx.FF1(key, radix=10).encrypt("0123456789", tweak=tweak("text", "\1" * 10))
    assert apply("tokenise", ["0123456789"]) == [digits]
    cipher = ffx.FF1(key, alphabet=string.digits + string.ascii_uppercase)
    upper = cipher.encrypt("7Q2K81XA", tweak=tweak("text", "\4\4\4\4-\4\4\4\4"))
    assert apply("tokenise(alphabet='upper')", ["7Q2K-81XA"]) == [upper[:4] + "-" + upper[4:]]
    cipher = ffx.FF1(key)
    rank = cipher.encrypt_int(  # A is 0, C is 2; then the digits
        (0 * 26 + 2) * 10**4 + 1234, domain=26**2 * 10**4, tweak=tweak("text", "\2\2-\1\1\1\1")
    )
    first, second = divmod(rank // 10**4, 26)
    written = f"{chr(65 + first)}{chr(65 + second)}-{rank % 10**4:04d}"
    assert apply("tokenise", ["AC-1234"]) == [written]
    rank = cipher.encrypt_int(
        1234567 - 10**6, domain=9 * 10**6, tweak=tweak("integer", "-" + "\1" * 7)
    )
    assert apply("tokenise", ["-1234567"], Type.INTEGER) == [f"-{rank + 10**6}"]


@pytest.mark.parametrize("alphabet", ["digits", "upper"])
def test_tokens_of_neighbours_look_like_chance(apply, alphabet):
    """Of values in sequence, each place of their tokens has each character alike, whatever the last was."""
    tokens = apply(form(alphabet), [f"{n:08d}" for n in range(7_200)])
    characters = string.digits + (string.ascii_uppercase if alphabet == "upper" else "")
    free = len(characters) - 1
    bound = free + 6 * (2 * free) ** 0.5  # mean and deviations of chi-square

    def chi_square(seen, outcomes):
        expected = sum(seen.values()) / outcomes
        return sum((n - expected) ** 2 for n in seen.values()) / expected + expected * (
            outcomes - len(seen)
        )

    for place in range(8):
        assert chi_square(Counter(token[place] for token in tokens), len(characters)) < bound
        steps = Counter(
            (characters.index(after[place]) - characters.index(token[place])) % len(characters)
            for token, after in itertools.pairwise(tokens)
        )
        assert chi_square(steps, len(characters)) < bound
