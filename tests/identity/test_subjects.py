"""subjects.yaml: issuers, or all faults at once."""

from __future__ import annotations

import pytest

from proxy.errors import Faulty
from proxy.identity import Identities
from tests.identity.material import jwks, key, public

TEXT = """\
issuers:
  - issuer: https://id.example.com
    prefix: ""
    audience: [counterfoil]
    keys: {file: jwks.json}
    groups: {claim: groups}
    attributes:
      stores: {claim: stores, type: text, many: true}
  - issuer: https://partner.example.com
    prefix: ext/
    audience: [counterfoil]
    keys: {url: https://partner.example.com/jwks.json}
    algorithms: [ES256]
    skew: 0
    attributes:
      stores: {claim: shops, type: text, many: true}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "jwks.json").write_bytes(jwks(public(key("EC"), kid="k")))
    (tmp_path / "secret.json").write_bytes(jwks({"kty": "oct", "k": "aHVudGVyMg"}))
    (tmp_path / "html.json").write_bytes(b"<html>")
    return tmp_path


def faults(text: str, folder) -> list[str]:
    with pytest.raises(Faulty) as caught:
        Identities.load(text.encode(), file="s.yaml", folder=folder)
    return [str(fault) for fault in caught.value.faults]


def test_the_sample_is_right(folder):
    assert set(Identities.load(TEXT.encode(), file="s.yaml", folder=folder).attributes) == {
        "stores"
    }


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("prefix: ext/", 'prefix: ""', "10:13: two issuers have no prefix"),
        ("prefix: ext/", "prefix: ext", "10:13: `ext` is not a prefix"),
        ("prefix: ext/", "prefix: a b/", "10:13: `a b/` is not a prefix"),
        (
            "https://partner.example.com\n",
            "https://id.example.com\n",
            "9:13: the issuer `https://id.example.com` is named twice",
        ),
        ("[counterfoil]", "[]", "4:15: needs at least 1"),
        ("[counterfoil]", "['']", "4:16: the text is empty"),
        (
            "{file: jwks.json}",
            "{file: jwks.json, url: https://a/b}",
            "5:11: the keys are either in a",
        ),
        ("{file: jwks.json}", "{refresh_seconds: 0}", "5:29: the number is less than 1"),
        ("jwks.json}", "none.json}", "5:18: the keys cannot be read: no such file"),
        ("jwks.json}", "secret.json}", "5:18: the keys cannot be used: no usable key in the set"),
        ("jwks.json}", "html.json}", "5:18: the keys cannot be used: not a JSON object"),
        ("jwks.json}", ".}", "5:18: the keys cannot be read: not a file"),
        ("[ES256]", "[HS256]", "13:18: expected one of `RS256`, `PS256`, `ES256`, `EdDSA`"),
        ("[ES256]", "[none]", "13:18: expected one of"),
        ("[ES256]", "[]", "13:17: needs at least 1"),
        ("skew: 0", "skew: 301", "14:11: the number is greater than 300"),
        ("skew: 0", "skew: -1", "14:11: the number is less than 0"),
        ("skew: 0", "skew: true", "14:11: expected a whole number"),
        ("shops, type: text, many: true", "shops, type: text", "16:36: `stores` has another type"),
        ("shops, type: text,", "shops, type: integer,", "16:36: `stores` has another type"),
        (
            "      stores: {claim: shops",
            "      Stores: {claim: shops",
            "16:7: `Stores` is not an attribute's name",
        ),
        ("groups: {claim: groups}", "groups: groups", "6:13: expected a mapping, found text"),
        ("groups: {claim: groups}", "group: {claim: groups}", "6:5: unknown key `group`"),
        ('    prefix: ""\n', "", "2:5: missing key `prefix`"),
    ],
)
def test_each_fault_has_its_place(folder, old, new, fault):
    assert old in TEXT
    found = faults(TEXT.replace(old, new, 1), folder)
    assert len(found) == 1
    assert found[0].startswith(f"s.yaml:{fault}")


@pytest.mark.parametrize(
    "url",
    ["http://partner.example.com/jwks.json", "ftp://a/b", "file:///etc/passwd", "https://", "https://u:p@a/b",
     "https://a/b#c", "https://a b/", "http://127.0.0.1.evil.example/", "http://localhost.evil.example/",
     "http://10.0.0.1/", "http://[::1", "https://a:99999/", "//a/b", "jwks.json", "http://169.254.169.254/"],
)  # fmt: skip
def test_keys_are_fetched_over_https_or_from_this_machine(folder, url):
    (found,) = faults(TEXT.replace("https://partner.example.com/jwks.json", f"'{url}'"), folder)
    assert found.startswith("s.yaml:12:17: ")


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/j", "http://localhost/j", "'http://[::1]:8/j'", "https://a.example/j?x=y"],
)
def test_urls_of_keys_that_are_accepted(folder, url):
    text = TEXT.replace("https://partner.example.com/jwks.json", url)
    Identities.load(text.encode(), file="s.yaml", folder=folder)


def test_all_faults_come_at_once_and_show_no_key(folder):
    text = TEXT.replace("prefix: ext/", "prefix: 'x y'").replace(
        "{file: jwks.json}", "{file: secret.json}"
    )
    text = text.replace("many: true}\n  -", "many: false}\n  -")
    found = faults(text, folder)
    assert len(found) == 3
    assert "aHVudGVyMg" not in "".join(found)
