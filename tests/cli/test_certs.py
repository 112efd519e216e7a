"""`counterfoil certs dev`: what it makes works together, and is made anew before it ends."""

from __future__ import annotations

import ssl
import stat

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.identity.certificates import Authorities, Certificate


def run(folder, *words):
    result = CliRunner().invoke(main, ["certs", "dev", "--folder", str(folder), *words])
    return result.exit_code, result.output


def shown(folder, name):
    pem = (folder / f"client-{name}.crt").read_text()
    return Certificate.parse(ssl.PEM_cert_to_DER_cert(pem))


def test_a_client_is_made_that_the_list_and_the_authority_vouch_for(tmp_path):
    """Its certificate is good by ca.crt and ca.crl, and is the name that is printed for subjects.yaml."""
    folder = tmp_path / "dev"
    status, output = run(folder, "--client", "bi")
    assert status == 0
    certificate = shown(folder, "bi")
    authorities = Authorities((folder / "ca.crt").read_bytes(), (folder / "ca.crl").read_bytes())
    assert authorities.fault(certificate, certificate.since + 600) == ""
    (name,) = certificate.names
    assert f'{{tool: bi, certificates: ["{name}"]}}' in output
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == (0o600 if path.suffix == ".key" else 0o644)


def test_it_is_kept_while_it_is_good_and_made_anew_with_all_that_was_there(tmp_path):
    """One more client, or a file that is gone: all of it is made anew, the clients of before too."""
    folder = tmp_path / "dev"
    run(folder, "--client", "bi")
    first = shown(folder, "bi")
    assert "nothing made" in run(folder, "--client", "bi")[1] and shown(folder, "bi") == first
    assert "made anew" in run(folder, "--client", "crm")[1]
    assert shown(folder, "bi") != first and shown(folder, "crm").fault == ""
    (folder / "server.key").unlink()
    assert "made anew" in run(folder)[1]


@pytest.mark.parametrize("name", ["", "../x", "a b", "é", "a/b", "-x"])
def test_a_name_that_is_no_file_is_refused(tmp_path, name):
    """Nothing is written for it."""
    status, output = run(tmp_path / "dev", "--client", name)
    assert status != 0 and "Traceback" not in output and not (tmp_path / "dev").exists()
