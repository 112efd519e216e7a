"""Identity providers on this machine, one a tenant of the same server: discovery, keys, introspection."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.harness.background import Background
from tests.identity import material

LARGE = 50 << 20


@dataclass
class Tenant:
    """One issuer; what it answers is a test's to set."""

    issuer: str
    keys: list[Any]
    """Its JSON Web Keys."""
    moved: str = ""
    """Where its keys are said to have moved."""
    large: bool = False
    """Whether its set of keys goes on for ever."""
    down: bool = False
    active: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Opaque token -> what is said of it."""
    asked: Counter[str] = field(default_factory=Counter)
    """Requests by the last part of their path."""
    sent: int = 0

    def token(
        self,
        subject: str = "alice",
        *,
        algorithm: str = "ES256",
        private: Any = None,
        kid: str | None = "k",
        header: dict[str, Any] | None = None,
        **more: Any,
    ) -> str:
        """A good token, but for `more` claims (None leaves one out) and for how it is signed."""
        now = int(time.time())
        payload = {
            "iss": self.issuer, "aud": "counterfoil", "sub": subject, "iat": now, "exp": now + 600,
            "client_id": "app", "groups": ["analysts"], **more,
        }  # fmt: skip
        payload = {name: value for name, value in payload.items() if value is not None}
        return material.token(payload, algorithm=algorithm, private=private, kid=kid, header=header)


class Provider:
    """The server; `trap` is a place that nobody should ask at."""

    def __init__(self, background: Background) -> None:
        self.tenants: dict[str, Tenant] = {}
        self.trapped = 0
        self._background = background
        self.port = 0
        self.start()
        self.trap = f"{self.url}/trap"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Again at the same port, once it was stopped."""
        self._background.run(self._start())

    async def _start(self) -> None:
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None), shutdown_timeout=0.2
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    @property
    def listens(self) -> bool:
        return bool(self._runner.addresses)

    def close(self) -> None:
        self._background.run(self._runner.cleanup())

    def tenant(self, name: str, *keys: Any) -> Tenant:
        self.tenants[name] = Tenant(issuer=f"{self.url}/{name}", keys=list(keys))
        return self.tenants[name]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        name, _, rest = request.path.lstrip("/").partition("/")
        tenant, what = self.tenants.get(name), rest.rpartition("/")[2]
        if tenant is None:
            self.trapped += 1
            return web.Response(status=404)
        tenant.asked[what] += 1
        if tenant.down:
            return web.Response(status=503)
        match what:
            case "openid-configuration":
                return web.json_response({
                    "issuer": tenant.issuer,
                    "jwks_uri": f"{tenant.issuer}/jwks",
                    "introspection_endpoint": f"{tenant.issuer}/introspect",
                })  # fmt: skip
            case "jwks" if tenant.moved:
                return web.Response(status=302, headers={"Location": tenant.moved})
            case "jwks" if tenant.large:
                response = web.StreamResponse()
                await response.prepare(request)
                async for piece in _large():
                    await response.write(piece)
                    tenant.sent += len(piece)
                return response
            case "jwks":
                return web.json_response({"keys": tenant.keys})
            case "introspect":
                token = dict(part.split("=") for part in (await request.text()).split("&"))["token"]
                return web.json_response(tenant.active.get(token, {"active": False}))
        return web.Response(status=404)


async def _large() -> AsyncIterator[bytes]:
    yield json.dumps({"keys": []}).encode()[:-2]
    for _ in range(LARGE >> 16):
        yield b" " * (1 << 16)
    yield b"]}"
