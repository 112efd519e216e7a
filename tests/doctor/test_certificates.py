"""What a doctor says of certificates, of clients' authorities and of their lists: each under its own file."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.doctor import Finding, State
from tests.doctor.homes import edit, told
from tests.harness.pki import ANY, CLIENT, EDI, HOUR, LOCAL, SERVER, Authority
from tests.harness.proxy import Home

YEAR = timedelta(days=365)


def authority_of(*, since: timedelta = -HOUR, until: timedelta = YEAR) -> tuple[Authority, bytes]:
    """An authority, and its certificate in PEM."""
    made = Authority()
    return made, made.itself(since=since, until=until).public_bytes(Encoding.PEM)


def listening(
    home: Home, authority: Authority, *, usage=SERVER, clients: bytes | None = None, revoked=None
) -> None:
    """A server's certificate that lasts; clients' authorities and lists as they are given."""
    certificate, key = authority.issue(*LOCAL, usage=usage, until=YEAR).write(home.folder, "server")
    more = ""
    if clients is not None:
        (home.folder / "ca.pem").write_bytes(clients)
        more = ", clients: {authority: ca.pem}"
    if revoked is not None:
        (home.folder / "ca.crl").write_bytes(revoked)
        more = ", clients: {authority: ca.pem, revoked: ca.crl}"
    edit(home, "port: 0", f"port: 0, certificate: {certificate}, key: {key}{more}")


def wrong(home: Home) -> list[Finding]:
    return [each for each in told(home, "certificates") if each.state is not State.OK]


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ({"since": -2 * HOUR, "until": -HOUR}, "has ended on"),
        ({"since": HOUR}, "is not valid yet"),
        ({"until": 24 * HOUR}, "ends on"),
    ],
)
def test_an_authority_of_clients_that_does_not_count_is_told(home, when, words):
    """Ended, not begun, or about to end: under its file; of the only one it is a fault, for all are refused."""
    authority, pem = authority_of(**when)
    listening(home, authority, clients=pem)
    (one,) = wrong(home)
    assert one.what == str(home.folder / "ca.pem") and one.what in one.command and one.fix
    assert words in one.text and "CN=Test CA" in one.text
    assert one.state is (State.WARN if "until" in when and words == "ends on" else State.FAIL)


def test_an_authority_that_ended_beside_one_that_counts_is_a_warning(home):
    """As while clients move from one to the other; one that was renewed with its key is no matter at all."""
    old, ended = authority_of(since=-2 * HOUR, until=-HOUR)
    _, other = authority_of()
    listening(home, old, clients=ended + other)
    (one,) = wrong(home)
    assert one.state is State.WARN and "has ended on" in one.text
    renewed = old.itself(until=YEAR).public_bytes(Encoding.PEM)
    (home.folder / "ca.pem").write_bytes(ended + renewed + other)
    assert not wrong(home)
    assert any(
        "clients' authorities count until" in each.text for each in told(home, "certificates")
    )


@pytest.mark.parametrize(
    ("usage", "good"), [(SERVER, True), (ANY, True), (None, True), (CLIENT, False)]
)
def test_a_certificate_that_is_not_for_servers_is_told(home, usage, good):
    """`extendedKeyUsage` with `clientAuth` alone: no client takes it; without one it is for anything."""
    authority, _ = authority_of()
    listening(home, authority, usage=usage)
    if good:
        assert not wrong(home)
        return
    (one,) = wrong(home)
    assert one.state is State.FAIL and "not for servers" in one.text and "serverAuth" in one.fix


@pytest.mark.parametrize("san", [None, EDI])
@pytest.mark.parametrize("names", ["", ", names: [localhost]"])
def test_a_certificate_that_names_no_host_is_told_once_under_its_file(home, san, names):
    """Whether there are none, or of a kind that cannot be read; where names are listed clients refuse it still."""
    leaf = Authority().issue(usage=SERVER, until=YEAR, named=san)
    certificate, key = leaf.write(home.folder, "server")
    edit(home, "port: 0", f"port: 0, certificate: {certificate}, key: {key}{names}")
    one, *others = wrong(home)
    assert one.what == str(certificate) and "subjectAltName" in one.text
    assert all(each.what == str(certificate) for each in others) and len(others) <= bool(
        san and names
    )


def test_a_list_that_is_at_fault_is_told_under_its_own_file(home):
    """Not under the server's certificate, which is told to be good; with a command for lists."""
    authority, pem = authority_of()
    listening(home, authority, clients=pem, revoked=b"canary")
    (one,) = wrong(home)
    assert one.what == str(home.folder / "ca.crl") and one.state is State.FAIL
    assert "`revoked` has no list (CRL) in PEM" in one.text and "openssl crl" in one.command
    assert {each.what for each in told(home, "certificates") if each.state is State.OK} == {
        str(home.folder / "ca.pem"),
        str(home.folder / "server.crt"),
    }
    other, _ = authority_of()
    (home.folder / "ca.crl").write_bytes(other.revoke())
    (one,) = wrong(home)
    assert (
        one.what == str(home.folder / "ca.crl") and "no authority of `authority` signed" in one.text
    )
    (home.folder / "ca.crl").unlink()
    (one,) = wrong(home)
    assert one.what == str(home.folder / "ca.crl") and "cannot be read: no such file" in one.text


def test_an_authority_and_a_certificate_at_fault_are_both_told(home):
    """Each under its file."""
    authority, _ = authority_of()
    listening(home, authority, clients=b"canary")
    (home.folder / "server.key").write_bytes(authority.issue(*LOCAL).key)
    assert {each.what: each.state for each in wrong(home)} == {
        str(home.folder / "ca.pem"): State.FAIL,
        str(home.folder / "server.crt"): State.FAIL,
    }


def test_a_list_s_end_is_told(home):
    """In time, and once it has ended."""
    authority, pem = authority_of()
    listening(home, authority, clients=pem, revoked=authority.revoke(until=30 * 24 * HOUR))
    assert not wrong(home)
    (home.folder / "ca.crl").write_bytes(authority.revoke(until=HOUR))
    (one,) = wrong(home)
    assert one.state is State.WARN and "a list ends in" in one.text
    (home.folder / "ca.crl").write_bytes(authority.revoke(since=-2 * HOUR, until=-HOUR))
    (one,) = wrong(home)
    assert one.state is State.FAIL and "a list has ended" in one.text
