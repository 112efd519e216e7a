"""Views without a server: shared by the tests of pages and of sorting."""

from __future__ import annotations

from proxy.evidence.witness import Witness
from proxy.formats import FORMATS
from proxy.gateway.view import Steps
from proxy.keys import Keyring
from proxy.report import FormatName
from tests.reference import product

KEYRING = Keyring.generate()


def steps_of(view: product.View, format_: str, document: bytes) -> Steps:
    """What the document, a source in that format, goes through for a view."""
    kind = FORMATS[FormatName(format_)]
    bound = view.bound(view.groups(view.dialect(format_), document))
    return Steps(
        decoder=view.decoder(format_),
        transform=bound,
        encoder=kind.encoder(bound.columns, view.dialect(format_)),
        digest=KEYRING.mac("audit-digest").start(),
        witness=Witness.of(view.report, KEYRING),
    )
