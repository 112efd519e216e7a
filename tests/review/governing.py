"""A proxy on which ada may grant and lock down, for the tests of what its log says of that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness import sales
from tests.harness.proxy import Proxy, stage

RULES = """\
p, group:admins, sales/*, grant, sub.level > 3, allow
p, group:admins, sales/*, lockdown, true, allow
"""
GRANT = {
    "subject": "user:bob", "report": "sales/daily", "role": "role:analyst", "seconds": 3600,
    "reason": "r",
}  # fmt: skip
LOCKDOWN = {"reports": "sales/*", "reason": "leak"}


@contextmanager
def governed(folder: Path, rules: str = "") -> Iterator[tuple[Proxy, str, str]]:
    """The proxy, ada's token and nora's, who is nobody but for more `rules`."""
    with stage(folder, reports=sales.REPORTS, rules=sales.RULES + RULES + rules) as (_, proxy):
        ada = proxy.issuer.token("ada", groups=("admins",), level=5)
        yield proxy, ada, proxy.issuer.token("nora")
