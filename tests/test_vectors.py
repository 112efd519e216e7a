"""Published vectors of authenticated encryption, as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.errors import ValueRefused
from proxy.keys import Aead

RFC_8452 = json.loads((Path(__file__).parent / "vectors" / "rfc8452_aes256.json").read_text())


@pytest.mark.parametrize(
    "case",
    RFC_8452["cases"],
    ids=lambda case: f"{len(case['plaintext']) // 2}-{case['sealed'][:8]}",
)
def test_aead_agrees_with_rfc_8452(case):
    """AES-256-GCM-SIV opens the ciphertexts of the RFC's appendices, and none with a bit changed."""
    key, nonce, sealed, associated, plaintext = (
        bytes.fromhex(case[name]) for name in ("key", "nonce", "sealed", "associated", "plaintext")
    )
    aead = Aead(key, "k")
    assert aead.open(nonce + sealed, associated) == plaintext
    for at in range(len(sealed)):
        altered = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(ValueRefused):
            aead.open(nonce + altered, associated)
