r"""`tokenise(alphabet=, domain=)`: a stand-in of the value's own form, which the keys turn back (FF1).

    AB-1234-77  ->  QX-8831-05          pattern: letters stay letters of their case, digits digits
    4000 1234 5678 9010  ->  7281 9034 1177 0252        `alphabet='digits'`
    7Q2K-81XA   ->  M0ZC-4T7P           `alphabet='upper'`: any of 0–9 and A–Z in each place
    20261128    ->  58120347            an integer: as many digits, the first of them not 0

Which characters change is the alphabet's matter; spaces and ASCII punctuation stand still. A value
is given as null, never as it is, if it holds any other character (a letter where the alphabet has
none, `é`), if it is longer than 128 characters, or if there are fewer than 10**6 values of its form:
five digits, four small letters. A text keeps its leading zeros; integers are equal as numbers are
(`+7` and `7`), keep their sign, and need seven digits.

The form, with separators, goes into the tweak of FF1, so that each form has a permutation of its own.
Characters of one kind are a numeral string in the radix of that kind; of several, and integers, the
value's rank among all of its form, in radix 2. The key is derived per report, field and purpose, or
per named domain, which the tweak names again:

    tweak = the first 8 bytes of SHA-256(length-prefixed labels and form)

Tokens are made under the keyring's naming key, which they do not name. Nothing tells a token from a
value, and whatever has a value's form is a token of some value. By chance, once in 10**6 values or
fewer, a value is its own token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from proxy.batch import Batch
from proxy.errors import ValueRefused
from proxy.few import Cells
from proxy.ff1 import Ff1
from proxy.keys import prefixed, text_bytes
from proxy.treatments import domains
from proxy.treatments.base import (
    BadArgument,
    Literal,
    Operation,
    Parameter,
    Site,
    Treatment,
    quoted,
)
from proxy.treatments.columns import all_distinct, of_type
from proxy.treatments.shapes import (
    ALPHABETS,
    Ranks,
    Shape,
    Strings,
    is_integer,
    of_integers,
    of_texts,
    written,
)
from proxy.values import Type

_TWEAK: Final = 8
"""Bytes: with them each round of FF1 takes one block of AES, but for the longest values."""


@dataclass(frozen=True, kw_only=True)
class Tokenise(Treatment):
    """A token of the value's own form: equal values have equal ones, and the keys turn them back."""

    name: ClassVar[str] = "tokenise"
    summary: ClassVar[str] = (
        "A stand-in of the value's own form, equal for equal values, by format-preserving encryption "
        "(FF1): keyed per report, field and purpose, or per named domain; null where there are fewer "
        "than a million values of that form."
    )
    tells: ClassVar[str] = (
        "Which values are equal, how long each is, and its separators; of a pattern also which "
        "characters are letters, their case, and which are digits; of an integer its sign. Null tells that "
        "a value has no token."
    )
    use: ClassVar[str] = (
        "For licence, account or card numbers that must pass a check of their form, and that an "
        "investigation may turn back."
    )
    avoid: ClassVar[str] = (
        "Where nobody needs the form or the way back: `pseudonym` tells less. Where it has to be noticed "
        "that a token is another field's, altered or made up: `encrypt` is sealed. Short values have no "
        "token: a postal code of five digits is null."
    )
    shown: ClassVar[tuple[tuple[str, Type, str], ...]] = (
        ("tokenise", Type.TEXT, "AB-1234-77"),
        ("tokenise(alphabet='digits')", Type.TEXT, "4000 1234 5678 9010"),
        ("tokenise(alphabet='upper')", Type.TEXT, "7Q2K-81XA"),
        ("tokenise", Type.INTEGER, "20261128"),
        ("tokenise", Type.TEXT, "50309"),
    )
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            name="alphabet",
            attribute="alphabet",
            read=quoted,
            summary="what changes: `'pattern'` (letters to letters, digits to digits; the usual), "
            "`'digits'`, `'upper'` or `'lower'` (with digits), `'alphanumeric'`",
        ),
        domains.parameter("fields and reports that name it share their tokens"),
    )
    accepts: ClassVar[frozenset[Type]] = frozenset({Type.TEXT, Type.INTEGER})
    output: ClassVar[str] = "the field's, or text"
    rank: ClassVar[int] = 28
    deterministic: ClassVar[bool] = True
    reversible: ClassVar[bool] = True
    idempotent: ClassVar[bool] = False
    unchanged: ClassVar[str] = "by chance, once in a million values at most"
    per_value: ClassVar[bool] = True

    alphabet: str = "pattern"
    domain: str | None = None

    def __post_init__(self) -> None:
        if self.alphabet not in ALPHABETS:
            known = ", ".join(f"`'{each}'`" for each in ALPHABETS)
            raise BadArgument("alphabet", "there is no such alphabet", f"one of {known}")
        domains.check(self.domain)

    @property
    def fineness(self) -> tuple[object, ...]:
        """By name; one token is no finer than another."""
        return (self.alphabet, self.domain or "")

    def __str__(self) -> str:
        given = []
        if self.alphabet != "pattern":
            given.append(f"alphabet={Literal(self.alphabet, quoted=True)}")
        if self.domain is not None:
            given.append(f"domain={Literal(self.domain, quoted=True)}")
        return f"tokenise({', '.join(given)})" if given else "tokenise"

    def gives(self, type_: Type) -> Type:
        """Keep the type, but an alphabet with letters in it makes texts of integers."""
        return type_ if self._as_number(type_) else Type.TEXT

    def bind(self, site: Site) -> Operation:
        """Give the tokens under this site's key."""
        tokens = self.tokens(site)

        def tokenised(batch: Batch) -> Cells:
            return all_distinct(of_type(batch.values(site.field), site.type), tokens.made)

        return tokenised

    def _as_number(self, type_: Type) -> bool:
        return type_ is Type.INTEGER and self.alphabet in ("pattern", "digits")

    def tokens(self, site: Site, *, key_id: str | None = None) -> Tokens:
        """Values and tokens at a site, under one of its keyring's keys (the naming one if None)."""
        labels = domains.labels(self.domain, site)
        return Tokens(
            cipher=Ff1(site.keyring.derive("tokenise", *labels, key_id=key_id)),
            labels=labels,
            type=site.type,
            as_number=self._as_number(site.type),
            alphabet=self.alphabet,
        )


def detokenise(treatment: Tokenise, cell: str, site: Site, *, key_id: str | None) -> str:
    """The value whose token at `site` is `cell`, under the key `key_id` (the naming one if None).

    Raises ValueRefused where the cell has the form of no token of the site, or the keyring no such
    key. What was made under another key, or elsewhere, is not noticed: it gives another value.
    """
    if key_id is not None and key_id not in site.keyring.ids:
        raise ValueRefused("the keyring holds no such key")
    value = treatment.tokens(site, key_id=key_id).opened(cell)
    if value is None:
        raise ValueRefused("the cell has not the form of a token")
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Values and tokens of one site."""

    cipher: Ff1
    labels: tuple[str, ...]
    type: Type
    as_number: bool
    """Whether integers stay such."""
    alphabet: str

    def made(self, values: Sequence[str]) -> list[str | None]:
        """The token of each value of the site's type; None where it has none."""
        if self.type is Type.INTEGER:
            values = [str(int(value)) for value in values]
        return self._crypt(values, back=False)

    def opened(self, token: str) -> str | None:
        """The value of a token; None where it is none."""
        if self.as_number and not is_integer(token):
            return None
        (value,) = self._crypt([token], back=True)
        if value is not None and self.type is Type.INTEGER and not is_integer(value):
            return None
        return value

    def _crypt(self, texts: Sequence[str], *, back: bool) -> list[str | None]:
        """All texts that FF1 takes alike at once, whatever their shapes."""
        given: list[str | None] = [None] * len(texts)
        known: dict[str, tuple[Shape | None, bytes]] = {}
        strings: dict[tuple[str, int], list[tuple[int, Strings, bytes]]] = {}
        ranks: dict[int, list[tuple[int, Ranks, bytes]]] = {}
        for place, text in enumerate(texts):
            form = written(text, self.alphabet)
            if form is None:
                continue
            if form not in known:
                known[form] = self._shape(form)
            shape, tweak = known[form]
            if isinstance(shape, Strings):
                strings.setdefault((shape.alphabet, shape.length), []).append((place, shape, tweak))
            elif shape is not None:
                ranks.setdefault((shape.domain - 1).bit_length(), []).append((place, shape, tweak))
        for (alphabet, _), cells in strings.items():
            crypted = self.cipher.strings(
                [shape.string(texts[place]) for place, shape, _ in cells],
                alphabet=alphabet,
                tweaks=[tweak for *_, tweak in cells],
                back=back,
            )
            for (place, one, _), string in zip(cells, crypted, strict=True):
                given[place] = one.text(string)
        for numbered in ranks.values():
            numbers = self.cipher.numbers(
                [shape.rank(texts[place]) for place, shape, _ in numbered],
                domains=[shape.domain for _, shape, _ in numbered],
                tweaks=[tweak for *_, tweak in numbered],
                back=back,
            )
            for (place, other, _), number in zip(numbered, numbers, strict=True):
                given[place] = other.text(number)
        return given

    def _shape(self, form: str) -> tuple[Shape | None, bytes]:
        """A shape, and the tweak that goes with it."""
        named = (*self.labels, "integer" if self.as_number else "text", form)
        digest = hashlib.sha256(prefixed(*map(text_bytes, named))).digest()
        return of_integers(form) if self.as_number else of_texts(form), digest[:_TWEAK]
