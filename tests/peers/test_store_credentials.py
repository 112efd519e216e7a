"""What stores that no one here wrote are presented: nginx a certificate, a certified provider client and secret."""

from __future__ import annotations

import jwt
import pytest
from aiohttp import web

from tests.harness import pki, sales
from tests.harness.guarded import Guarded
from tests.harness.proxy import Home, running
from tests.peers import nginx, oidc_provider
from tests.peers.oidc_provider import RESOURCE, providing

PATH = "/sales/daily.csv"
ROWS = sales.rows(2_000)


def home_of(folder, url: str, more: str) -> Home:
    reports = sales.REPORTS.replace("loopback: true}", f"loopback: true, {more}}}")
    return Home(folder, reports=reports, rules=sales.RULES, store=url)


def ask(proxy):
    return proxy.get(PATH, token=proxy.issuer.token("alice", groups=("analysts",)))


@pytest.mark.skipif(nginx.MISSING is not None, reason=str(nginx.MISSING))
def test_nginx_knows_the_proxy_by_its_certificate(tmp_path, background):
    """Nginx verifies the client's certificate: with it 200, with another authority's or none 502."""
    stores, clients, strangers = (pki.Authority(name) for name in ("Stores", "Clients", "Others"))
    folder = tmp_path / "nginx"
    (folder / "files/sales").mkdir(parents=True)
    (folder / "files/sales/daily.csv").write_bytes(sales.as_csv(ROWS))
    stores.issue(*pki.LOCAL, usage=pki.SERVER).write(folder, "server")
    (folder / "clients.pem").write_bytes(clients.pem)
    secrets = tmp_path / "home"
    secrets.mkdir()
    (secrets / "ca.pem").write_bytes(stores.pem)
    clients.issue(common="counterfoil").write(secrets, "proxy")
    with nginx.nginx(folder, more=nginx.MUTUAL) as at:
        url = at.replace("http://127.0.0.1", "https://localhost")
        more = "tls: {authority: ../ca.pem, certificate: ../proxy.crt, key: ../proxy.key}"
        with running(home_of(secrets, url, more), background) as proxy:
            answer = ask(proxy)
            assert answer.status == 200 and answer.body.count(b"\n") == len(ROWS) + 1
            strangers.issue(common="counterfoil").write(secrets, "proxy")
            assert proxy.reload()
            refused = ask(proxy)
            assert refused.status == 502 and b"nginx" not in refused.raw
            text = (proxy.home.policies / "reports.yaml").read_text()
            proxy.home.write("reports.yaml", text.replace(more, "tls: {authority: ../ca.pem}"))
            assert proxy.reload()
            assert ask(proxy).status == 502
            clients.issue(common="counterfoil").write(secrets, "proxy")
            proxy.home.write("reports.yaml", text)
            assert proxy.reload()
            assert ask(proxy).status == 200


@pytest.mark.skipif(
    not oidc_provider.installed(), reason="oidc-provider is not installed: `make peers` with npm"
)
def test_a_certified_provider_gives_the_proxy_its_own_tokens(tmp_path, background):
    """Client credentials: the store verifies the token by the provider's keys; another secret gets none."""
    with providing("RS256") as provider:
        keys = jwt.PyJWKClient(f"{provider.issuer}/jwks")
        clients = []

        async def answer(request: web.BaseRequest, _: bytes) -> web.StreamResponse:
            token = request.headers["Authorization"].removeprefix("Bearer ")
            claims = jwt.decode(
                token,
                keys.get_signing_key_from_jwt(token),
                algorithms=["RS256"],
                audience="counterfoil",
                issuer=provider.issuer,
            )
            clients.append(claims["client_id"])
            return web.Response(body=sales.as_csv(ROWS), content_type="text/csv")

        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets/app").write_text("app-secret")
        more = (
            f"oauth: {{token_url: '{provider.issuer}/token', loopback: true, client: app,"
            f" secret: 'file:../../secrets/app', scope: read, resource: '{RESOURCE}'}}"
        )
        with Guarded(background, answer) as store:
            with running(home_of(tmp_path / "one", store.url, more), background) as proxy:
                assert [ask(proxy).status for _ in range(5)] == [200] * 5
            assert clients == ["app"] * 5
            assert len({authorization for _, authorization, _ in store.asked}) == 1
            (tmp_path / "secrets/app").write_text("another-secret")
            with running(home_of(tmp_path / "two", store.url, more), background) as proxy:
                assert ask(proxy).status == 502
                assert proxy.events()[-1].cause == "store-credential"
            assert len(clients) == 5
