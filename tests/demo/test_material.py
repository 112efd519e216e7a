"""What the demo puts on disk: kept, private, and good for what it is for."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta

import jwt
import pytest
import yaml
from cryptography import x509

from proxy import config
from proxy.demo import people
from proxy.demo.material import prepare
from proxy.demo.run import STOP_SECONDS
from proxy.errors import CounterfoilError
from proxy.keys import file as keyring_file
from proxy.keys.kek import kek_of

NOW = datetime.now(UTC)


@pytest.fixture
def material(tmp_path):
    return prepare(tmp_path, now=NOW)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_there_is_kept(material):
    """Preparing again, with other ports too, changes no file and adds none."""
    before = contents(material.root)
    prepare(material.root, now=NOW, port=1, store_port=2)
    assert contents(material.root) == before


def test_what_a_person_edited_is_kept_and_what_is_missing_is_made(material):
    """An edited policy stays; a file that is gone comes back."""
    (material.policies / "policy.csv").write_text("# mine\n")
    (material.policies / "model.conf").unlink()
    prepare(material.root, now=NOW)
    assert (material.policies / "policy.csv").read_text() == "# mine\n"
    assert (material.policies / "model.conf").exists()


def test_everything_but_certificates_is_private(material):
    """Nobody but their owner can read the files, and no scratch file is left."""
    for path in contents(material.root):
        private = path.suffix not in (".crt", ".crl")
        assert stat.S_IMODE(path.stat().st_mode) == (0o600 if private else 0o644), path
        assert not path.name.startswith(".")


def test_the_certificate_is_verified_for_this_machine_alone(material):
    """A strict client that trusts the CA accepts 127.0.0.1 and localhost, and no other name."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(
        material.certificates / "server.crt", material.certificates / "server.key"
    )
    client = ssl.create_default_context(cafile=material.ca)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in ("127.0.0.1", "localhost"):
        handshake(client, server, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, server, "example.com")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(ssl.create_default_context(), server, "localhost")


def handshake(client, server, name):
    ways = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(ways[0], ways[1], server_hostname=name),
        server.wrap_bio(ways[1], ways[0], server_side=True),
    ]
    while ends:
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)


def test_the_development_ca_is_bound_to_loopback(material):
    """Whoever trusts the CA trusts it for this machine's names alone: it says so itself."""
    authority = x509.load_pem_x509_certificate(material.ca.read_bytes())
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert {str(name.value) for name in constraints.value.permitted_subtrees} == {
        "localhost", "127.0.0.0/8", "::1/128",
    }  # fmt: skip
    assert not list(material.certificates.glob("ca.key"))


@pytest.mark.parametrize("spoil", ["expiry", "key", "ca", "rubbish"])
def test_certificates_that_are_no_good_are_made_anew(material, tmp_path_factory, spoil):
    """A certificate that is about to expire, or does not go with its key or CA, is replaced."""
    other = prepare(tmp_path_factory.mktemp("other"), now=NOW)
    now = NOW + timedelta(days=390) if spoil == "expiry" else NOW
    if spoil == "key":
        (other.certificates / "server.key").replace(material.certificates / "server.key")
    if spoil == "ca":
        other.ca.replace(material.ca)
    if spoil == "rubbish":
        (material.certificates / "server.crt").write_text("rubbish")
    before = (material.certificates / "server.crt").read_bytes()
    prepare(material.root, now=now)
    assert (material.certificates / "server.crt").read_bytes() != before
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
        material.certificates / "server.crt", material.certificates / "server.key"
    )


def test_the_settings_are_settings_and_open_the_keyring(material):
    """counterfoil.yaml is read by the proxy's own reader, and names files that are there."""
    loaded = config.load(material.settings, {})
    listen = loaded.settings.listen
    assert (listen.host, listen.port) == ("127.0.0.1", 8443)
    assert loaded.path(listen.certificate).samefile(material.certificates / "server.crt")
    assert loaded.path(listen.key).samefile(material.certificates / "server.key")
    assert loaded.path(loaded.settings.policies).samefile(material.policies)
    kek = kek_of(loaded.key_encryption_key, {})
    assert keyring_file.read(loaded.keyring, kek)


def test_the_proxy_has_time_to_end_its_records(material):
    """The demo's proxy stops by itself, with its log closed, before the demo would kill it."""
    assert config.load(material.settings, {}).settings.limits.drain_seconds < STOP_SECONDS


def test_ports_go_where_they_belong(tmp_path):
    """In a new folder the proxy's port is in its settings, and the store's in the catalogue."""
    material = prepare(tmp_path, now=NOW, port=9443, store_port=9701)
    assert yaml.safe_load(material.settings.read_text())["listen"]["port"] == 9443
    reports = yaml.safe_load((material.policies / "reports.yaml").read_text())
    assert reports["stores"]["demo"]["url"] == "http://127.0.0.1:9701"


def test_a_keyring_whose_key_is_gone_is_never_replaced(material):
    """Where the key-encryption key is lost, the keyring stays as it is and the person is told."""
    (material.folder / "kek").unlink()
    before = contents(material.root)
    with pytest.raises(CounterfoilError, match="cannot be opened"):
        prepare(material.root, now=NOW)
    assert contents(material.root) == before


@pytest.mark.parametrize("name", people.PEOPLE)
def test_tokens_verify_and_say_who_it_is(material, name):
    """A token verifies under the published keys, says the groups, and lasts 8 hours."""
    now = NOW.timestamp()
    token = people.token(
        name, key=material.issuer_key.read_bytes(), key_id=material.key_id, now=now
    )
    key_set = jwt.PyJWKSet.from_json((material.policies / "jwks.json").read_text())
    key = key_set[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(
        token,
        key,
        algorithms=["ES256"],
        audience=people.AUDIENCE,
        issuer=people.ISSUER,
        options={"require": ["iss", "aud", "sub", "exp", "iat"]},
    )
    person = people.PEOPLE[name]
    assert (claims["sub"], claims["azp"]) == (name, "demo-cli")
    assert claims["groups"] == list(person.groups)
    assert claims["exp"] - claims["iat"] == 8 * 3600


def test_a_new_issuer_key_gets_a_new_key_set(material):
    """The published key set is always that of the key which signs."""
    before = material.key_id
    material.issuer_key.unlink()
    prepare(material.root, now=NOW)
    assert material.key_id != before


def test_no_private_key_is_published(material):
    """The key set holds public members alone."""
    published = yaml.safe_load((material.policies / "jwks.json").read_text())
    assert [set(key) for key in published["keys"]] == [
        {"kty", "crv", "x", "y", "kid", "alg", "use"}
    ]
