"""A client certificate is good for what it was issued for, by whom, while it is not revoked; names are exact."""

from __future__ import annotations

import ssl
import time
from datetime import timedelta
from types import MappingProxyType

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import CounterfoilError
from proxy.identity.certificates import Authorities, Certificate
from proxy.identity.people import Claimed
from proxy.identity.tools import ToolEntry, Tools, Unknown, is_name
from tests.harness.pki import ANY, EDI, HOUR, SERVER, Authority, dns, uri

CA, OTHER = Authority(), Authority("Another CA")
BI = uri("spiffe://example.com/bi")


def fault(leaf, *, revoked=None):
    return Authorities(CA.pem, revoked).fault(Certificate.parse(leaf.der), time.time())


def test_a_good_certificate_has_no_fault_and_its_names():
    """URIs and DNS names count, in small letters where they have none; the common name does not."""
    leaf = CA.issue(BI, dns("BI.example.com"), common="tool:root")
    certificate = Certificate.parse(leaf.der)
    assert fault(leaf) == "" and fault(leaf, revoked=CA.revoke()) == ""
    assert certificate.names == ("URI:spiffe://example.com/bi", "DNS:bi.example.com")
    assert certificate.thumbprint == leaf.thumbprint


@pytest.mark.threat("C31")
@pytest.mark.parametrize(
    ("made", "cause"),
    [
        (lambda: CA.issue(BI, until=-timedelta(minutes=1)), "certificate-expired"),
        (lambda: CA.issue(BI, since=timedelta(minutes=1)), "certificate-not-yet-valid"),
        (lambda: OTHER.issue(BI), "certificate-issuer"),
        (lambda: Authority().issue(BI), "certificate-issuer"),  # of the same name, by another key
        (lambda: CA.issue(BI, usage=SERVER), "certificate-usage"),
        (lambda: CA.issue(BI, usage=ANY), "certificate-usage"),
        (lambda: CA.issue(BI, usage=None), "certificate-usage"),
        (lambda: CA.issue(BI, ca=True), "certificate-usage"),
        (lambda: CA.issue(BI, critical=x509.ObjectIdentifier("1.2.3.4")), "certificate-malformed"),
        (lambda: CA.issue(*[dns(f"a{n}.example") for n in range(33)]), "certificate-malformed"),
    ],
)
def test_a_certificate_that_is_not_good_is_none(made, cause):
    """C31: expired, future, wrong CA, not for clients, and what is not understood."""
    assert fault(made()) == cause


@pytest.mark.threat("C31")
def test_a_list_of_revoked_ones_counts_while_it_lasts():
    """C31: a revoked one is refused; so is every one once its authority's list has ended, or is missing."""
    leaf, other = CA.issue(BI), CA.issue(BI)
    listed = CA.revoke(other)
    assert (
        fault(leaf, revoked=listed) == "" and fault(other, revoked=listed) == "certificate-revoked"
    )
    stale = CA.revoke(since=-2 * HOUR, until=-timedelta(seconds=5))
    assert fault(leaf, revoked=stale) == "revocations-stale"
    assert fault(leaf, revoked=stale + listed) == ""  # the newest counts, wherever it stands
    both = Authorities(CA.pem + OTHER.pem, CA.revoke())
    assert both.fault(Certificate.parse(OTHER.issue(BI).der), time.time()) == "revocations-stale"


@pytest.mark.parametrize("revoked", [None, CA.revoke()])
def test_an_authority_that_was_renewed_with_its_key_counts_while_one_of_both_lasts(revoked):
    """In whichever order they stand; the certificates that it has issued before are good as long."""
    certificate, now = Certificate.parse(CA.issue(BI, since=-3 * HOUR).der), time.time()
    ended = CA.itself(since=-2 * HOUR, until=-HOUR).public_bytes(Encoding.PEM)
    to_come = CA.itself(since=HOUR, until=2 * HOUR).public_bytes(Encoding.PEM)
    for pem in (ended + CA.pem, CA.pem + ended, to_come + CA.pem):
        assert Authorities(pem, revoked).fault(certificate, now) == ""
    for pem in (ended, to_come, ended + to_come, ended + OTHER.pem):
        assert Authorities(pem, revoked).fault(certificate, now) == "certificate-issuer"


@pytest.mark.parametrize(
    "listed",
    [b"", b"garbage", CA.pem, OTHER.revoke(), CA.revoke(partial=True), CA.revoke() + OTHER.revoke(),
     CA.revoke() + CA.pem, CA.revoke()[:-60] + b"\n-----END X509 CRL-----\n"],
)  # fmt: skip
def test_a_list_that_is_not_understood_is_not_taken(listed):
    """A delta, a stranger's list, and what is no list at all are told, not skipped."""
    with pytest.raises(CounterfoilError):
        Authorities(CA.pem, listed)


UNKNOWN_KEY = ssl.DER_cert_to_PEM_cert(
    CA.certificate.public_bytes(Encoding.DER).replace(
        bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0209")
    )
).encode()
"""Of a kind that nobody has given a meaning to."""


@pytest.mark.parametrize(
    "authority",
    [b"", b"garbage", CA.issue(BI).pem, CA.pem + CA.issue(BI).pem, CA.issue(ca=True, named=EDI).pem,
     UNKNOWN_KEY, CA.pem + UNKNOWN_KEY],
)  # fmt: skip
def test_an_authority_must_be_one(authority):
    """A file with no certificate, or with one that may not issue others or cannot be read, is told."""
    with pytest.raises(CounterfoilError):
        Authorities(authority)


GOOD = CA.issue(BI).der


@given(
    st.one_of(
        st.binary(max_size=400), st.tuples(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
    )
)
def test_a_damaged_certificate_never_raises_and_is_never_good(damage):
    """C31: whatever bytes come for a certificate, they are one with a fault, by parsing or by signature."""
    if isinstance(damage, tuple):
        place, flip = damage
        der = GOOD[:place] + bytes([GOOD[place] ^ flip]) + GOOD[place + 1 :]
    else:
        der = damage
    assert Authorities(CA.pem).fault(Certificate.parse(der), time.time()) != ""


# ── which tool's it is ──

TOOLS = Tools.of(
    (
        ToolEntry(tool="bi", certificates=("URI:spiffe://example.com/bi",), passes_on=("portal",)),
        ToolEntry(tool="crm", certificates=("DNS:crm.example.com", "DNS:*.example.com")),
    )
)


def tool(*names, **more):
    return TOOLS.of_certificate(Certificate.parse(CA.issue(*names, **more).der))


@pytest.mark.parametrize(
    "names",
    [(), (uri("spiffe://example.com/bi2"),), (uri("spiffe://example.com/BI"),), (uri("spiffe://example.com/bi/"),),
     (dns("spiffe"),), (dns("*.example.com"),), (x509.RFC822Name("bi@example.com"),)],
)  # fmt: skip
def test_a_name_that_is_not_listed_is_nobodys(names):
    """Names are compared exactly; the common name, a wildcard and names of other kinds are none."""
    assert tool(*names, common="bi") is None


def test_a_certificate_of_two_tools_is_refused():
    """Which of the two asks is not for the proxy to choose."""
    assert tool(BI, dns("other.example")) == "tool:bi"
    with pytest.raises(Unknown, match="certificate-ambiguous"):
        tool(BI, dns("CRM.example.com"))


@pytest.mark.parametrize(
    ("user", "client", "through", "outcome"),
    [
        ("user:a", None, "tool:bi", "tool:bi"),
        ("user:a", "tool:bi", "tool:bi", "tool:bi"),
        ("user:a", "tool:portal", "tool:bi", "tool:bi"),
        ("user:a", "tool:spa", "tool:bi", "client-mismatch"),
        ("user:a", "tool:portal", "tool:crm", "client-mismatch"),
        ("user:a", "tool:crm", "tool:bi", "client-mismatch"),
        (None, "tool:bi", "tool:bi", "tool:bi"),
        (None, "tool:portal", "tool:bi", "client-mismatch"),
        ("user:a", "tool:spa", None, "tool:spa"),
        ("user:a", None, None, None),
        ("user:a", "tool:bi", None, "certificate-needed"),
        (None, "tool:crm", None, "certificate-needed"),
    ],
)
def test_whose_token_may_come_with_whose_certificate(user, client, through, outcome):
    """A listed tool is known by its certificate alone, and presents its own users' tokens, or those it passes on."""
    claimed = Claimed(user=user, tool=client, attributes=MappingProxyType({}), audiences=None)
    if outcome is None or outcome.startswith("tool:"):
        assert TOOLS.through(claimed, through).tool == outcome
    else:
        with pytest.raises(Unknown, match=outcome):
            TOOLS.through(claimed, through)


@given(st.text(max_size=60))
def test_a_name_in_the_policy_is_of_a_kind_that_certificates_have(text):
    """No name with a blank, a wildcard or a capital in DNS could ever match; none is taken."""
    for name in (text, f"URI:{text}", f"DNS:{text}"):
        if is_name(name):
            assert name.isprintable() and "*" not in name and " " not in name
            assert not name.startswith("DNS:") or name[4:] == name[4:].lower()
