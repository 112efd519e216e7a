"""Vectors of our own: what each keyed treatment gives under a fixed keyring, today and for ever.

If a derivation changes, nobody can match or open the pseudonyms, tokens and ciphertexts that are out
there. Where that is meant: `python -m tests.treatments.test_vectors` writes the file anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from proxy.keys import Keyring, MasterKey
from proxy.treatments import TABLE, detokenise, opened, parse
from proxy.values import Type
from tests.treatments.conftest import apply, site

FILE: Final = Path(__file__).parents[1] / "vectors" / "treatments.json"
PLACE: Final = {
    "report": "sales/store-daily",
    "purpose": "audit",
    "subject": "user:alice",
    "keyring": Keyring([
        MasterKey(id="5f3a90c1", created="", state="active", secret=bytes(range(100, 132))),
        MasterKey(id="0ld", created="", state="retired", secret=bytes(range(32))),
    ]),
}  # fmt: skip
ROW: Final = {"date": "2026-11-28", "store_id": "2191"}
VALUES: Final = {
    "text": [
        *("AB-1234-77", "4000 1234 5678 9010", "7Q2K-81XA", "ann.lee42@shop.example", "K\u00e4se"),
        *("", "50309", "x" * 33),
    ],
    "integer": ["20261128", "-1234567", "0020261128", "7"],
}
FORMS: Final = [
    *("pseudonym", "pseudonym(domain='stores')", "pseudonym(per='subject')"),
    *("tokenise", "tokenise(domain='stores')", "tokenise(alphabet='digits')"),
    *("tokenise(alphabet='upper')", "tokenise(alphabet='lower')"),
    *("tokenise(alphabet='alphanumeric')", "encrypt", "encrypt(deterministic='field')"),
]

Vector = dict[str, str | None]


def made() -> list[Vector]:
    return [
        {"treatment": form, "type": type_, "value": value, "given": given}
        for form in FORMS
        for type_, values in VALUES.items()
        for value, given in zip(values, treated(form, type_, values), strict=True)
    ]


def treated(form: str, type_: str, values: list[str]) -> list[str | None]:
    key = {name: [value] * len(values) for name, value in ROW.items()}
    return apply(form, values, Type(type_), key=key, **PLACE)


def vectors(name: str) -> list[Vector]:
    found = [each for each in json.loads(FILE.read_text()) if parse(each["treatment"]).name == name]
    assert len(found) >= len(VALUES["text"])
    return found


@pytest.mark.parametrize("name", ["pseudonym", "tokenise", "encrypt"])
def test_what_is_given_is_what_was_given(name):
    """A deterministic keyed form of a value under a keyring never changes."""
    for vector in vectors(name):
        if not parse(vector["treatment"]).repeats:
            continue
        given = treated(vector["treatment"], vector["type"], [vector["value"]])
        assert given == [vector["given"]], vector


def test_what_was_sealed_opens():
    """A cell that was encrypted under a keyring opens under it, in its place."""
    for vector in vectors("encrypt"):
        here = site(Type(vector["type"]), key=tuple(ROW), **PLACE)
        found = opened(vector["given"], here, ROW)
        assert (found.text, found.type) == (vector["value"], vector["type"]), vector


def test_what_was_a_token_still_is_one():
    """A token goes back to its value, an integer's to the number."""
    for vector in vectors("tokenise"):
        if vector["given"] is None:
            continue
        type_ = Type(vector["type"])
        treatment = parse(vector["treatment"])
        value_of = detokenise(treatment, vector["given"], site(type_, **PLACE), key_id=None)
        value = vector["value"]
        assert value_of == (str(int(value)) if type_ is Type.INTEGER else value), vector


def test_every_keyed_treatment_has_vectors():
    """What can be turned back, and what gives equal forms by a key, is in the file."""
    keyed = {name for name, kind in TABLE.items() if kind.reversible and name != "clear"}
    named = {parse(each["treatment"]).name for each in json.loads(FILE.read_text())}
    assert keyed | {"pseudonym"} <= named


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(vector) for vector in made())
    FILE.write_text(f"[\n{lines}\n]\n")
