"""Asking a running proxy for grants and lockdowns, and for their ends."""

from __future__ import annotations

import json

from proxy.policy.granting import blocks
from tests.harness import sales, wire
from tests.harness.proxy import Proxy

RULES = (
    sales.RULES
    + "p, group:admins, sales/*, grant, true, allow\n"
    + "p, group:admins, sales/*, lockdown, true, allow\n"
    + "p, role:mailer, sales/daily, read, true, allow\n"
    + "p2, role:mailer, sales/daily, true, buyer_email, clear\n"
    + "p, user:dora, sales/daily, lockdown, true, allow\n"
)


def token(proxy: Proxy, name: str = "ada", *groups: str, **more) -> str:
    return proxy.issuer.token(name, groups=groups or (("admins",) if name == "ada" else ()), **more)


def ask(
    proxy: Proxy,
    method: str,
    path: str,
    body: object = None,
    *,
    by: str | None = "",
    raw: bytes | None = None,
    **headers: str,
) -> wire.Answer:
    data = raw if raw is not None else (b"" if body is None else json.dumps(body).encode())
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    fields = (
        {"Content-Type": "application/json", "Content-Length": str(len(data))}
        if data or body is not None
        else {}
    )
    if by is not None:
        fields["Authorization"] = f"Bearer {by or token(proxy)}"
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return wire.parse(wire.exchange(proxy.url, ("\r\n".join(lines) + "\r\n\r\n").encode() + data))


def lock(proxy: Proxy, reports: str = "sales/*") -> str:
    """Lock the reports down; gives the lockdown's id."""
    answer = ask(proxy, "POST", "/-/lockdowns", {"reports": reports, "reason": "leak"})
    assert answer.status == 201
    return answer.event


def lift_all(proxy: Proxy) -> None:
    for block in blocks(proxy.app.policy.text("lockdown.csv")):
        assert ask(proxy, "DELETE", f"/-/lockdowns/{block.id}").status == 200
