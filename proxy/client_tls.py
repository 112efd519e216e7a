"""What connections to stores and token endpoints are made with, of PEM texts."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from proxy.credentials import Tls

_PASS_PHRASE: Final = b""  # nobody is there to be asked for one


def context_of(tls: Tls) -> ssl.SSLContext:
    """The context; raises OSError or ValueError where `fault_of` finds something."""
    authority = None if tls.authority is None else _ascii(tls.authority).decode()
    context = ssl.create_default_context(cadata=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if tls.certificate is not None and tls.key is not None:
        with _unnamed(tls.certificate) as chain, _unnamed(tls.key) as key:
            context.load_cert_chain(chain, key, password=lambda: _PASS_PHRASE)
    return context


def fault_of(tls: Tls) -> str | None:
    """What is wrong with it, in words that repeat none of it; None where it is right."""
    try:
        context_of(Tls(authority=tls.authority))
    except (OSError, ValueError):
        return "the authority is no certificate in PEM"
    try:
        context_of(tls)
    except (OSError, ValueError):
        return "the certificate and its key are no pair in PEM without a pass phrase"
    return None


def _ascii(text: str) -> bytes:
    """PEM is ASCII; what stands between its blocks, such as the names of authorities, may be anything."""
    return text.encode("ascii", "replace")


@contextmanager
def _unnamed(text: str) -> Iterator[str]:
    """A path for OpenSSL, which reads files alone, to one that has no name and, on Linux, is on no disk."""
    file: Any
    if hasattr(os, "memfd_create"):
        file = os.fdopen(os.memfd_create("counterfoil", os.MFD_CLOEXEC), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    with file:
        file.write(_ascii(text))
        file.flush()
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}"
