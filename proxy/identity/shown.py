"""What comes with a token."""

from __future__ import annotations

import math

import msgspec

from proxy.identity.certificates import Certificate
from proxy.identity.single_use import Elsewhere


class Shown(msgspec.Struct, frozen=True):
    """The certificate that comes with a token, the tool whose it is, and the request that has both."""

    certificate: Certificate | None
    tool: str | None
    by: object
    elsewhere: Elsewhere

    @property
    def thumbprint(self) -> str:
        """Of the certificate; '' where there is none."""
        return "" if self.certificate is None else self.certificate.thumbprint

    @property
    def confirmation(self) -> str:
        """As a token that is bound to it has it; '' where there is none."""
        return "" if self.certificate is None else self.certificate.confirmation

    @property
    def until(self) -> float:
        """When it ends."""
        return math.inf if self.certificate is None else self.certificate.until
