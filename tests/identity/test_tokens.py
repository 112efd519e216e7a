"""A token is a subject, or nothing (THREATS C 22 to 27)."""

from __future__ import annotations

import asyncio
import hmac
import json
from datetime import date
from fractions import Fraction
from hashlib import sha256

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.identity import Identities
from proxy.plan import Deny
from proxy.reasons import Reason
from proxy.subject import AttributeType, Subject
from proxy.values import Type
from tests.identity.material import (
    ISSUER,
    NOW,
    b64,
    claims,
    jwks,
    key,
    pem,
    public,
    raw_token,
    token,
)

SUBJECTS = f"""\
issuers:
  - issuer: {ISSUER}
    prefix: ""
    audience: [counterfoil, spare]
    keys: {{file: jwks.json}}
    groups: {{claim: groups}}
    attributes:
      stores: {{claim: stores, type: text, many: true}}
      region: {{claim: "https://example.com/region", type: text}}
      level: {{claim: level, type: integer}}
      share: {{claim: share, type: decimal}}
      hired: {{claim: hired, type: date}}
      staff: {{claim: staff, type: boolean}}
  - issuer: https://partner.example.com
    prefix: ext/
    audience: [counterfoil]
    keys: {{file: partner.json}}
    algorithms: [ES256]
    token_type: jwt
    clients: [bi, counterfoil]
    client_claims: [appid, azp]
    groups: {{claim: roles}}
    skew: 0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policies")
    own = [public(key(kind), kid=kid) for kind, kid in (("RSA", "r"), ("EC", "k"), ("OKP", "o"))]
    (folder / "jwks.json").write_bytes(jwks(*own))
    (folder / "partner.json").write_bytes(jwks(public(key("EC", "partner"))))
    return folder


@pytest.fixture
def identities(folder):
    return Identities.load(SUBJECTS.encode(), file="s.yaml", folder=folder)


def verify(identities, presented, now=NOW):
    return asyncio.run(identities.verify(presented, now))


def cause(identities, presented, now=NOW) -> str:
    found = verify(identities, presented, now)
    assert isinstance(found, Deny)
    assert found.reason is Reason.UNAUTHENTICATED
    assert not found.detail
    return found.cause


def bearer(**more):
    return f"Bearer {token(claims(**more))}"


def test_a_good_token_is_its_subject(identities):
    found = verify(
        identities,
        bearer(
            groups=["analysts", "Sales, North", "analysts"],
            stores=["2191", "2192"],
            level=3,
            share="0.50",
            hired="2020-01-02",
            staff=True,
            **{"https://example.com/region": "North"},
        ),
    )
    assert found == Subject(
        user="user:alice",
        tool="tool:bi",
        groups=("group:analysts", "group:Sales, North"),
        attributes={
            "stores": ("2191", "2192"),
            "region": "North",
            "level": 3,
            "share": Fraction(1, 2),
            "hired": date(2020, 1, 2),
            "staff": True,
        },
        audiences=frozenset({"counterfoil"}),
        expires=NOW + 630,
    )


def test_the_attributes_that_conditions_may_name_are_those_of_all_issuers(identities):
    assert identities.attributes["stores"] == AttributeType(type=Type.TEXT, many=True)
    assert set(identities.attributes) == {"stores", "region", "level", "share", "hired", "staff"}


@pytest.mark.parametrize(
    ("algorithm", "kid"), [("RS256", "r"), ("PS256", "r"), ("ES256", "k"), ("EdDSA", "o")]
)
def test_each_algorithm_verifies_with_a_key_of_its_kind_and_with_no_other(
    identities, algorithm, kid
):
    good = token(algorithm=algorithm, kid=kid)
    assert isinstance(verify(identities, f"Bearer {good}"), Subject)
    for other in {"r", "k", "o"} - {kid}:
        wrong = token(algorithm=algorithm, kid=other)
        assert cause(identities, f"Bearer {wrong}") == "algorithm-refused"
    forged = token(
        algorithm=algorithm,
        kid=kid,
        private=key({"r": "RSA", "k": "EC", "o": "OKP"}[kid], "forger"),
    )
    assert cause(identities, f"Bearer {forged}") == "bad-signature"


@pytest.mark.parametrize(
    "algorithm",
    [
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        None,
        0,
        ["ES256"],
        "HS256",
        "es256",
        "RS512",
        "ES384",
        "ES256K",
        "dir",
    ],
)
def test_no_other_algorithm_counts_whatever_the_signature(identities, algorithm):
    payload = json.dumps(claims()).encode()
    for header in ({"alg": algorithm, "kid": "k"}, {"alg": algorithm}, {"kid": "k"}):
        for signature in (b"", b"\0" * 64):
            presented = f"{b64(json.dumps(header).encode())}.{b64(payload)}.{b64(signature)}"
            assert cause(identities, f"Bearer {presented}") in (
                "algorithm-refused",
                "token-malformed",
            )
    real = raw_token(json.dumps({"alg": algorithm, "kid": "k"}).encode(), payload)
    assert cause(identities, f"Bearer {real}") == "algorithm-refused"


@pytest.mark.parametrize("kind", ["RSA", "EC", "OKP"])
def test_a_public_key_is_no_shared_secret(identities, kind):
    private = key(kind)
    kid = {"RSA": "r", "EC": "k", "OKP": "o"}[kind]
    for secret in (pem(private), json.dumps(public(private)).encode()):
        signed = f"{b64(json.dumps({'alg': 'HS256', 'kid': kid}).encode())}.{b64(json.dumps(claims()).encode())}"
        mac = hmac.new(secret, signed.encode(), sha256).digest()
        assert cause(identities, f"Bearer {signed}.{b64(mac)}") == "algorithm-refused"


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c", "crit", "b64", "cty", "enc", "zip"])
def test_a_header_that_brings_keys_or_demands_is_refused(identities, name):
    values = {"jwk": public(key("EC", "forger")), "crit": ["exp"], "x5c": ["MIIB"], "b64": False}
    for private in (key("EC"), key("EC", "forger")):
        made = token(private=private, header={name: values.get(name, "https://evil.invalid/k")})
        assert cause(identities, f"Bearer {made}") == "header-refused"


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "' OR 1=1 --",
        "k\r\nX: y",
        "K",
        "k ",
        "",
        "none",
        "/etc/passwd",
        "\0",
    ],
)
def test_a_key_id_is_only_ever_compared(identities, kid):
    assert cause(identities, f"Bearer {token(kid=kid)}") == "unknown-key"


@pytest.mark.parametrize("kid", [1, ["k"], {}, True])
def test_a_key_id_is_text(identities, kid):
    assert cause(identities, f"Bearer {token(header={'kid': kid})}") == "token-malformed"


def test_with_several_keys_a_token_must_name_its_own(identities):
    assert cause(identities, f"Bearer {token(kid=None)}") == "unknown-key"


@pytest.mark.parametrize("typ", ["JWE", "id_token+jwt", "logout+jwt", "dpop+jwt", "", None, 1, []])
def test_another_type_of_token_is_refused(identities, typ):
    assert cause(identities, f"Bearer {token(header={'typ': typ})}") == "token-type"


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
def test_access_tokens_are_accepted_by_type(identities, typ):
    assert isinstance(verify(identities, f"Bearer {token(header={'typ': typ})}"), Subject)


@pytest.mark.parametrize("typ", ["JWT", "jwt", "application/jwt"])
def test_a_token_that_does_not_say_what_it_is_counts_only_where_its_issuer_is_declared_so(
    identities, typ
):
    assert cause(identities, f"Bearer {token(header={'typ': typ})}") == "token-type"
    assert isinstance(verify(identities, partner(header={"typ": typ})), Subject)
    untyped = raw_token(b'{"alg":"ES256"}', json.dumps(claims(iss=PARTNER)).encode(),
                        private=key("EC", "partner"))  # fmt: skip
    assert isinstance(verify(identities, f"Bearer {untyped}"), Subject)
    of_ours = raw_token(b'{"alg":"ES256","kid":"k"}', json.dumps(claims()).encode())
    assert cause(identities, f"Bearer {of_ours}") == "token-type"


def test_a_token_whose_client_is_whom_it_is_for_is_an_id_token_where_no_type_tells(identities):
    assert cause(identities, partner(azp="counterfoil")) == "id-token"
    assert isinstance(verify(identities, bearer(azp="counterfoil")), Subject)


def test_only_the_clients_of_an_issuer_s_list_count(identities):
    assert cause(identities, partner(azp="other")) == "client-refused"
    assert cause(identities, partner(azp=None)) == "client-refused"
    assert verify(identities, partner(azp=None, appid="bi")).tool == "tool:ext/bi"
    assert cause(identities, partner(appid="other")) == "client-mismatch"
    assert cause(identities, partner(azp=None, client_id="bi")) == "client-refused"


@pytest.mark.parametrize(
    ("act", "more", "wanted"),
    [
        ({"sub": "bi"}, {}, "tool:bi"),
        ({"sub": "etl"}, {"azp": None}, "tool:etl"),
        ({"sub": "5f7c", "client_id": "bi"}, {}, "tool:bi"),
        ({"sub": "bi", "iss": ISSUER}, {}, "tool:bi"),
        ({"sub": "bi", "act": {"sub": "etl", "act": {"sub": "role:admin"}}}, {}, "tool:bi"),
        ({"sub": "etl"}, {}, "client-mismatch"),
        ({"sub": "bi", "client_id": "etl"}, {}, "client-mismatch"),
        ({"sub": "bi", "iss": "https://partner.example.com"}, {}, "foreign-actor"),
        ({"sub": "bi", "iss": 1}, {}, "foreign-actor"),
        ({"sub": "bi", "act": "etl"}, {}, "wrong-type"),
        ({"sub": ["bi"]}, {}, "wrong-type"),
        ({"sub": None}, {}, "wrong-type"),
        ({}, {}, "missing-claim"),
        ("bi", {}, "wrong-type"),
        ([{"sub": "bi"}], {}, "wrong-type"),
        (None, {}, "wrong-type"),
        ({"sub": "ext/bi"}, {"azp": None}, "foreign-prefix"),
        ({"sub": "b i"}, {"azp": None}, "unsafe-name"),
    ],
)
def test_the_outermost_actor_is_the_tool_and_is_the_client_where_one_is_named(
    identities, act, more, wanted
):
    payload = {**claims(**more), "act": act}
    found = verify(identities, f"Bearer {token(payload)}")
    assert (found.cause if isinstance(found, Deny) else found.tool) == wanted
    if isinstance(found, Subject):
        assert found.user == "user:alice"


GOOD = token()
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")


@pytest.mark.parametrize(
    ("presented", "wanted"),
    [
        (None, "token-missing"),
        ("", "token-missing"),
        ("Basic YWxpY2U6eA==", "scheme-refused"),
        (GOOD, "scheme-refused"),
        ("Bearer", "token-malformed"),
        ("Bearer ", "token-malformed"),
        (f"Bearer\t{GOOD}", "scheme-refused"),
        (f"Bearer {GOOD} ", "token-malformed"),
        (f"Bearer {GOOD}, Bearer {GOOD}", "token-malformed"),
        (f"Bearer {GOOD}=", "token-malformed"),
        (f"Bearer {HEADER}.{PAYLOAD}", "token-malformed"),
        (f"Bearer {GOOD}==", "token-malformed"),
        (f"Bearer {HEADER}.{PAYLOAD}.", "token-malformed"),
        (f"Bearer {HEADER}.{PAYLOAD}.AAAA", "bad-signature"),
        (f"Bearer .{PAYLOAD}.{SIGNATURE}", "token-malformed"),
        (f"Bearer {HEADER}..{SIGNATURE}", "token-malformed"),
        (f"Bearer {HEADER}.{PAYLOAD}.{SIGNATURE}.{SIGNATURE}", "token-malformed"),
        (f"Bearer {HEADER}.{PAYLOAD}.{SIGNATURE}.{SIGNATURE}.x", "token-malformed"),
        (f"Bearer {HEADER}=.{PAYLOAD}.{SIGNATURE}", "token-malformed"),
        (f"Bearer {HEADER} .{PAYLOAD}.{SIGNATURE}", "token-malformed"),
        (f"Bearer {HEADER}\n.{PAYLOAD}.{SIGNATURE}", "token-malformed"),
        (f"Bearer é{GOOD}", "token-malformed"),
        (f"Bearer \udcff{GOOD}", "token-malformed"),
        (f"Bearer {'a' * (16 << 10)}.b.c", "token-too-large"),
        (f"Bearer {'a' * 5_000_000}", "token-too-large"),
    ],
)  # fmt: skip
def test_what_is_no_compact_token_in_a_bearer_header_is_refused(identities, presented, wanted):
    assert cause(identities, presented) == wanted


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
def test_the_scheme_is_told_without_regard_to_case(identities, scheme):
    assert isinstance(verify(identities, f"{scheme} {GOOD}"), Subject)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"null", b"[]", b'"x"', b"1", b"{", b"\xff", b"\xef\xbb\xbf{}", b'{"a":NaN}', b'{"a":Infinity}',
        b'{"a":' + b"1" * 5000 + b"}", b'{"a":' * 2000 + b"1" + b"}" * 2000, b"[" * 12_000,
        b'{"iss":"' + ISSUER.encode() + b'","iss":"' + ISSUER.encode() + b'"}',
        '{"iss":"x"}'.encode("utf-16"), b"eyJhbGciOiJFUzI1NiJ9.e30.AA",
    ],
)  # fmt: skip
def test_a_payload_or_header_that_is_no_plain_object_is_malformed(identities, payload):
    header = b'{"typ":"at+jwt","alg":"ES256","kid":"k"}'
    assert cause(identities, f"Bearer {raw_token(header, payload)}") in (
        "token-malformed",
        "missing-claim",
    )
    assert cause(identities, f"Bearer {raw_token(payload, b'{}')}") in (
        "token-malformed",
        "algorithm-refused",
    )


def test_a_payload_nested_as_deep_as_a_token_can_be_is_refused(identities):
    deep = b'{"a":' + b"[" * 5500 + b"]" * 5500 + b"}"
    presented = raw_token(b'{"typ":"at+jwt","alg":"ES256","kid":"k"}', deep)
    assert len(presented) < 16 << 10
    assert cause(identities, f"Bearer {presented}") == "token-malformed"


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "sub", "azp"])
def test_a_required_claim_that_is_missing_refuses_the_token(identities, name):
    assert cause(identities, bearer(**{name: None})) == "missing-claim"


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("iss", 1, "wrong-type"), ("iss", [ISSUER], "wrong-type"), ("iss", True, "wrong-type"),
        ("iss", ISSUER + "/", "unknown-issuer"), ("iss", "", "unknown-issuer"),
        ("iss", ISSUER.upper(), "unknown-issuer"),
        ("aud", 1, "wrong-type"), ("aud", {}, "wrong-type"), ("aud", True, "wrong-type"),
        ("aud", ["counterfoil", 1], "wrong-type"), ("aud", [], "wrong-audience"),
        ("aud", [["counterfoil"]], "wrong-type"), ("aud", "Counterfoil", "wrong-audience"),
        ("aud", "counterfoil spare", "wrong-audience"), ("aud", "", "wrong-audience"),
        ("aud", "other", "wrong-audience"), ("aud", ["other", "counterfoi"], "wrong-audience"),
        ("exp", "1790000600", "wrong-type"), ("exp", True, "wrong-type"), ("exp", [], "wrong-type"),
        ("exp", {}, "wrong-type"), ("exp", -1, "wrong-type"), ("exp", 10**30, "wrong-type"),
        ("exp", 1e300, "wrong-type"), ("exp", 253402300800, "wrong-type"),
        ("exp", 0, "token-expired"), ("exp", NOW - 30, "token-expired"), ("exp", NOW - 31, "token-expired"),
        ("nbf", "0", "wrong-type"), ("nbf", True, "wrong-type"), ("nbf", NOW + 31, "token-not-yet-valid"),
        ("iat", "0", "wrong-type"), ("iat", False, "wrong-type"), ("iat", NOW + 31, "token-not-yet-valid"),
        ("sub", 1, "wrong-type"), ("sub", ["alice"], "wrong-type"), ("sub", True, "wrong-type"),
        ("sub", {}, "wrong-type"), ("sub", "", "unsafe-name"), ("sub", "a" * 257, "unsafe-name"),
        ("sub", "a b", "unsafe-name"), ("sub", "a,b", "unsafe-name"), ("sub", "a\n", "unsafe-name"),
        ("sub", "a\0", "unsafe-name"), ("sub", "\u202ea", "unsafe-name"), ("sub", "\ud800", "unsafe-name"),
        ("sub", "a\u00a0b", "unsafe-name"), ("sub", "a\u200bb", "unsafe-name"),
        ("sub", "e\u0301", "unsafe-name"), ("groups", ["e\u0301"], "unsafe-name"),
        ("azp", 1, "wrong-type"), ("azp", ["bi"], "wrong-type"), ("azp", "", "unsafe-name"),
        ("azp", "b i", "unsafe-name"), ("client_id", "other", "client-mismatch"),
        ("client_id", 1, "wrong-type"),
        ("groups", "analysts", "wrong-type"), ("groups", {"a": 1}, "wrong-type"),
        ("groups", [1], "wrong-type"), ("groups", [["a"]], "wrong-type"), ("groups", [None], "wrong-type"),
        ("groups", ["a"] * 513, "too-many-groups"), ("groups", [""], "unsafe-name"),
        ("groups", [" a"], "unsafe-name"), ("groups", ["a\n"], "unsafe-name"),
        ("groups", ["a" * 257], "unsafe-name"), ("groups", ["\ud800"], "unsafe-name"),
        ("stores", "2191", "wrong-type"), ("stores", [2191], "wrong-type"), ("stores", ["a\n"], "wrong-type"),
        ("stores", [None], "wrong-type"), ("stores", {}, "wrong-type"), ("level", "x", "wrong-type"),
        ("level", 1.0, "wrong-type"), ("level", True, "wrong-type"), ("level", [1], "wrong-type"),
        ("level", 10**40, "wrong-type"), ("share", True, "wrong-type"), ("share", 1e-300, "wrong-type"),
        ("share", "0,5", "wrong-type"), ("hired", 20200102, "wrong-type"), ("hired", "2020-02-30", "wrong-type"),
        ("staff", 1, "wrong-type"), ("staff", "yes", "wrong-type"),
        ("nonce", "x", "id-token"), ("at_hash", "x", "id-token"), ("c_hash", "x", "id-token"),
        ("s_hash", "x", "id-token"), ("events", {}, "id-token"), ("typ", "ID", "id-token"),
        ("typ", "Refresh", "id-token"), ("token_use", "id", "id-token"), ("typ", 1, "id-token"),
        ("cnf", {"x5t#S256": "x"}, "bound-token"), ("jti", 1, "wrong-type"), ("jti", ["a"], "wrong-type"),
        ("_claim_names", {"groups": "src1"}, "distributed-claim"), ("_claim_names", [], "distributed-claim"),
        ("_claim_names", {"stores": "src1"}, "distributed-claim"), ("hasgroups", True, "distributed-claim"),
    ],
)  # fmt: skip
def test_a_claim_of_another_type_or_value_refuses_the_token(identities, name, value, wanted):
    presented = raw_token(
        b'{"typ":"at+jwt","alg":"ES256","kid":"k"}', json.dumps(claims(**{name: value})).encode()
    )
    assert cause(identities, f"Bearer {presented}") == wanted


@pytest.mark.parametrize(
    ("name", "value"),
    [("aud", ["x", "spare"]), ("exp", NOW + 0.5), ("exp", NOW - 29), ("nbf", NOW + 29), ("iat", NOW + 30),
     ("nbf", 0), ("sub", "auth0|5f7c8ec7c33c6c004bbafe82"), ("sub", "josé@example.com"), ("client_id", "bi"),
     ("typ", "Bearer"), ("token_use", "access"), ("_claim_names", {"address": "src1"})],
)  # fmt: skip
def test_a_claim_within_its_bounds_is_accepted(identities, name, value):
    assert isinstance(verify(identities, bearer(**{name: value})), Subject)


@pytest.mark.parametrize(
    ("more", "user", "tool"),
    [
        ({}, "user:alice", "tool:bi"),
        ({"azp": None, "client_id": "etl"}, "user:alice", "tool:etl"),
        ({"sub": "bi"}, None, "tool:bi"),
        ({"sub": "etl", "azp": None, "client_id": "etl"}, None, "tool:etl"),
        ({"sub": "role:admin", "azp": "anyone"}, "user:role:admin", "tool:anyone"),
        ({"sub": "user:alice"}, "user:user:alice", "tool:bi"),
    ],
)
def test_user_and_tool_are_typed_and_a_client_that_is_its_own_subject_acts_alone(
    identities, more, user, tool
):
    found = verify(identities, bearer(**more))
    assert (found.user, found.tool) == (user, tool)


def test_a_claim_that_is_missing_or_null_gives_no_attribute_and_no_group(identities):
    payload = {**claims(), "stores": None, "groups": None}
    assert verify(identities, f"Bearer {token(payload)}").attributes == {}
    assert verify(identities, f"Bearer {token(payload)}").groups == ()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("share", "0.1", Fraction(1, 10)), ("share", "1e2", 100), ("share", "7", 7), ("share", '"1.50"', Fraction(3, 2)),
     ("level", "12345678901234567890", 12345678901234567890), ("level", '"12"', 12), ("staff", '"true"', True),
     ("staff", "false", False)],
)  # fmt: skip
def test_numbers_of_attributes_are_exact(identities, name, text, value):
    payload = json.dumps(claims())[:-1] + f',"{name}":{text}}}'
    presented = raw_token(b'{"typ":"at+jwt","alg":"ES256","kid":"k"}', payload.encode())
    found = verify(identities, f"Bearer {presented}").attributes[name]
    assert found == value
    assert not isinstance(found, float)
    assert isinstance(found, bool) == isinstance(value, bool)


PARTNER = "https://partner.example.com"


def partner(header=None, **more):
    payload = claims(iss=PARTNER, **more)
    return f"Bearer {token(payload, private=key('EC', 'partner'), kid=None, header=header)}"


def test_each_issuer_names_its_own_users_tools_and_groups_and_no_others(identities):
    found = verify(identities, partner(roles=["admins"]))
    assert found.user == "user:ext/alice"
    assert found.tool == "tool:ext/bi"
    assert found.groups == ("group:ext/admins",)
    assert verify(identities, bearer(groups=["exterior"])).groups == ("group:exterior",)
    for more in ({"sub": "ext/alice"}, {"azp": "ext/bi"}, {"groups": ["ext/admins"]}):
        assert cause(identities, bearer(**more)) == "foreign-prefix"


def test_a_key_counts_for_its_issuer_alone(identities):
    stolen = token(claims(iss="https://partner.example.com"), kid="k")
    assert cause(identities, f"Bearer {stolen}") == "unknown-key"
    stolen = token(claims(iss="https://partner.example.com"), kid=None)
    assert cause(identities, f"Bearer {stolen}") == "bad-signature"
    assert cause(identities, f"Bearer {token(private=key('EC', 'partner'))}") == "bad-signature"


def test_an_algorithm_that_the_issuer_may_not_use_is_refused(identities):
    payload = claims(iss="https://partner.example.com")
    presented = token(payload, algorithm="EdDSA", kid=None)
    assert cause(identities, f"Bearer {presented}") == "algorithm-refused"


def test_skew_is_the_issuers_own(identities):
    presented = partner(exp=NOW + 10)
    assert isinstance(verify(identities, presented, NOW + 9.9), Subject)
    assert cause(identities, presented, NOW + 10) == "token-expired"


# ── what is remembered ──


def test_a_remembered_token_is_the_same_subject_until_it_expires(identities):
    presented = bearer(exp=NOW + 10, nbf=NOW)
    first = verify(identities, presented)
    assert verify(identities, presented, NOW + 39.9) is first
    assert cause(identities, presented, NOW - 31) == "token-not-yet-valid"
    assert verify(identities, presented) == first
    assert cause(identities, presented, NOW + 40) == "token-expired"
    assert not identities._remembered


def test_nothing_is_kept_of_refused_tokens(identities):
    for number in range(50):
        verify(identities, f"Bearer {GOOD[:-2]}{number:02d}")
        verify(identities, f"Bearer {number}")
    assert not identities._remembered
    subject = verify(identities, f"Bearer {GOOD}")
    (entry,) = identities._remembered.values()
    assert entry.subject is subject


def test_memory_is_bounded_by_evicting_the_least_recently_used(folder, monkeypatch):
    monkeypatch.setattr("proxy.identity._MOST_REMEMBERED", 3)
    identities = Identities.load(SUBJECTS.encode(), file="s.yaml", folder=folder)
    for number in range(10):
        verify(identities, bearer(sub="kept"))
        verify(identities, bearer(sub=f"u{number}"))
    kept = {entry.subject.user for entry in identities._remembered.values()}
    assert kept == {"user:kept", "user:u8", "user:u9"}


def test_no_token_is_kept_in_memory(identities):
    verify(identities, f"Bearer {GOOD}")
    assert GOOD not in repr(vars(identities))
    assert all(len(digest) == 32 for digest in identities._remembered)


# ── by property ──


@settings(max_examples=300)
@given(data=st.data())
def test_no_change_of_a_token_verifies(data):
    at = data.draw(st.integers(0, len(GOOD) - 1))
    how = data.draw(st.sampled_from(["replace", "insert", "delete", "swap"]))
    letter = data.draw(st.sampled_from("ABab01-_.=+/ \x00é") | st.characters())
    changed = {
        "replace": GOOD[:at] + letter + GOOD[at + 1 :],
        "insert": GOOD[:at] + letter + GOOD[at:],
        "delete": GOOD[:at] + GOOD[at + 1 :],
        "swap": GOOD[:at] + GOOD[at + 1 : at + 2] + GOOD[at : at + 1] + GOOD[at + 2 :],
    }[how]
    if changed.lstrip(" ") != GOOD:
        cause(SHARED[0], f"Bearer {changed}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10) | st.sampled_from(["counterfoil", ISSUER, "alice", "2020-01-02", "12"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
NAMES = ["iss", "aud", "exp", "sub", "nbf", "iat", "azp", "client_id", "groups", "stores", "level",
         "share", "hired", "staff", "typ", "_claim_names", "act"]  # fmt: skip


@settings(max_examples=300)
@given(more=st.dictionaries(st.sampled_from(NAMES), JSON, min_size=1, max_size=3))
def test_any_claims_are_a_subject_or_a_denial_and_nothing_else(more):
    found = verify(SHARED[0], f"Bearer {token({**claims(), **more})}")
    assert isinstance(found, Subject | Deny)
    if isinstance(found, Subject):
        assert found.user is None or found.user.startswith("user:")
        assert all(group.startswith("group:") for group in found.groups)


@settings(max_examples=200)
@given(header=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()),
       payload=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_signed_bytes_are_a_denial_unless_they_are_a_token(header, payload):
    cause(SHARED[0], f"Bearer {raw_token(header, payload)}")


SHARED: list[Identities] = []


@pytest.fixture(autouse=True, scope="module")
def _shared(folder):
    SHARED.append(Identities.load(SUBJECTS.encode(), file="s.yaml", folder=folder))
    yield
    SHARED.clear()


def test_the_library_agrees_that_our_good_token_is_good():
    found = jwt.decode(GOOD, key("EC").public_key(), ["ES256"], audience="counterfoil",
                       options={"verify_exp": False})  # fmt: skip
    assert found == claims()
