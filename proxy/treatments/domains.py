"""Where stand-ins are the same: a field of a report for one purpose, or wherever a domain is named.

A named domain is a statement of the admin's: whatever names it can be joined.
"""

from __future__ import annotations

from typing import Final

from proxy.treatments.base import BadArgument, Parameter, Site, quoted

_LONGEST: Final = 100


def parameter(summary: str) -> Parameter:
    """The parameter that names a domain."""
    return Parameter(name="domain", attribute="domain", read=quoted, summary=f"a name: {summary}")


def check(domain: str | None) -> None:
    """Raise BadArgument unless `domain`, where one is named, can be a name."""
    if domain is not None and not (1 <= len(domain) <= _LONGEST and domain.isprintable()):
        message = f"a domain has 1 to {_LONGEST} printable characters"
        raise BadArgument("domain", message, "such as `domain='sales'`")


def labels(domain: str | None, site: Site) -> tuple[str, ...]:
    """What the keys of stand-ins are derived for."""
    if domain is None:
        return ("field", site.report, site.purpose, site.field)
    return ("domain", domain)
