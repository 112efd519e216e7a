"""What the proxy presents to stores: its own, as it is now, and to nobody else."""

from __future__ import annotations

import base64
import contextlib
import logging
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from proxy.errors import Faulty
from tests.gateway.reloading import soon
from tests.harness import pki, sales
from tests.harness.background import Background
from tests.harness.guarded import Guarded
from tests.harness.proxy import Home, Proxy, running
from tests.harness.wire import Answer

PATH = "/sales/daily.csv"
CSV = sales.as_csv(sales.rows(5))
CANARY = "store-canary-Zq7"


def wanting(*good: str):
    """A store's answer to who presents one of these, and to everybody else."""

    async def answer(request: web.BaseRequest, _: bytes) -> web.Response:
        if request.headers.get("Authorization") in good:
            return web.Response(body=CSV, content_type="text/csv")
        return web.Response(status=401, text=CANARY, headers={"WWW-Authenticate": CANARY})

    return answer


@contextlib.contextmanager
def proxy_of(
    folder: Path, background: Background, url: str, more: str, *, settings: str = "", **files: str
):
    """A proxy whose store has `more` in its entry; `files` are put beside counterfoil.yaml."""
    text = sales.REPORTS.replace("loopback: true}", f"loopback: true, {more}}}")
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    home = Home(folder, reports=text, rules=sales.RULES, store=url, settings=settings)
    with running(home, background) as proxy:
        yield proxy


def ask(proxy: Proxy) -> Answer:
    return proxy.get(
        PATH,
        token=proxy.issuer.token("alice", groups=("analysts",)),
        headers={"Cookie": CANARY, "Proxy-Authorization": f"Basic {CANARY}"},
    )


def cause(proxy: Proxy) -> str:
    return proxy.events()[-1].cause


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_basic_is_presented_and_nothing_of_the_client_s(tmp_path, background, monkeypatch):
    """RFC 7617: user and password as they are; of the client's Authorization and Cookie nothing."""
    monkeypatch.setenv("STORE_PASSWORD", "p:a+s=s")
    with Guarded(background, wanting(basic("proxy", "p:a+s=s"))) as store:
        more = "basic: {user: proxy, password: 'env:STORE_PASSWORD'}"
        with proxy_of(tmp_path, background, store.url, more) as proxy:
            assert ask(proxy).status == 200
            assert [each[1] for each in store.asked] == [basic("proxy", "p:a+s=s")]


def test_a_token_renewed_in_its_file_is_read_when_the_store_says_so(tmp_path, background):
    """401: the file is read anew, and the request sent once more; also while the policy cannot be read."""
    with Guarded(background, wanting("Bearer first")) as store:
        more = "credential: 'file:../token'"
        with proxy_of(tmp_path, background, store.url, more, token="first\n") as proxy:
            assert ask(proxy).status == 200
            proxy.home.write("policy.csv", "nonsense\n")
            assert not proxy.reload()
            (tmp_path / "token").write_text("second\n")
            store.answer = wanting("Bearer second")
            assert ask(proxy).status == 200
            assert ask(proxy).status == 200
    assert [each[1] for each in store.asked] == [
        "Bearer first", "Bearer first", "Bearer second", "Bearer second",
    ]  # fmt: skip


def test_a_store_that_refuses_what_there_is_gets_nothing_else(tmp_path, background):
    """401 for ever: 502, without the store's words; the same token is not tried twice for one request."""
    with Guarded(background, wanting()) as store:
        more = "credential: 'file:../token'"
        with proxy_of(tmp_path, background, store.url, more, token="only") as proxy:
            for _ in range(8):
                answer = ask(proxy)
                assert answer.status == 502 and CANARY.encode() not in answer.raw
                assert cause(proxy) == "store-status-4xx"
            assert len(store.asked) == 8
            # Nor is it left alone for that: it answers.
            store.answer = wanting("Bearer only")
            assert ask(proxy).status == 200


# ── commands ──

COUNTING = "echo x >> runs; echo tok-$(wc -l < runs | tr -d ' ')"


def commanded(script: str, more: str = "") -> str:
    return f"commands: {{t: {{run: [/bin/sh, -c, {script!r}]{more}}}}}\n"


def test_a_command_prints_the_token_and_is_run_anew_for_a_401(tmp_path, background):
    """It runs in the folder of counterfoil.yaml, once for many, and once more where the store refuses."""
    with Guarded(background, wanting("Bearer tok-1")) as store:
        settings = commanded(COUNTING)
        more = "credential: 'command:t'"
        with proxy_of(tmp_path, background, store.url, more, settings=settings) as proxy:
            with ThreadPoolExecutor(8) as pool:
                assert {each.status for each in pool.map(ask, [proxy] * 8)} == {200}
            assert (tmp_path / "runs").read_text() == "x\n"
            store.answer = wanting("Bearer tok-2")
            assert ask(proxy).status == 200
            store.answer = wanting("Bearer tok-9")
            assert ask(proxy).status == 502  # and the command is left in peace for a while
            assert (tmp_path / "runs").read_text() == "x\nx\n"


def test_a_reload_takes_no_credential_from_requests_that_wait_for_it(tmp_path, background):
    """A policy that says something else of the store while its credential is made: who waits is answered."""
    with Guarded(background, wanting("Bearer tok-1")) as store:
        settings = commanded("touch begun; while [ ! -e go ]; do sleep 0.05; done; echo tok-1")
        more = "credential: 'command:t'"
        with (
            proxy_of(tmp_path, background, store.url, more, settings=settings) as proxy,
            ThreadPoolExecutor(2) as pool,
        ):
            first = pool.submit(ask, proxy)
            assert soon((tmp_path / "begun").exists)
            reports = (proxy.home.policies / "reports.yaml").read_text()
            other = reports.replace("loopback: true,", "loopback: true, limits: {connections: 7},")
            proxy.home.write("reports.yaml", other)
            assert proxy.reload()
            (tmp_path / "begun").unlink()
            second = pool.submit(ask, proxy)
            assert soon((tmp_path / "begun").exists)  # the store as it is known now has its own
            (tmp_path / "go").touch()
            assert (first.result().status, second.result().status) == (200, 200)


def test_a_command_sees_no_more_of_the_environment_than_it_is_given(
    tmp_path, background, monkeypatch
):
    """Of what opens the proxy's own doors it sees nothing, unless that is named for it."""
    monkeypatch.setenv("OWN_SECRET", CANARY)
    monkeypatch.setenv("GIVEN", "given")
    with Guarded(background, wanting("Bearer given--unset")) as store:
        settings = commanded("echo $GIVEN--${OWN_SECRET:-unset}", ", environment: [GIVEN]")
        more = "credential: 'command:t'"
        with proxy_of(tmp_path, background, store.url, more, settings=settings) as proxy:
            assert ask(proxy).status == 200


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (f"echo {CANARY}; exit 3", "ends with status 3"),
        (f"sleep 60 & echo {CANARY}; sleep 60", "takes over 1 seconds"),
        (f"yes {CANARY}", "prints over 8192 bytes"),
        (f"echo {CANARY} and more", "characters that no secret has"),
        (f"echo {CANARY} >&2", "is empty"),
        ("exec 2>&1; no-such-program", "ends with status 127"),
    ],
)
def test_a_command_that_fails_is_told_of_without_its_words(
    tmp_path, background, caplog, script, why
):
    """502, the store is not asked, and neither answer nor log has what was printed; nothing is left running."""
    caplog.set_level(logging.DEBUG)
    with Guarded(background, wanting()) as store:
        settings = commanded(script, ", timeout_seconds: 1")
        more = "credential: 'command:t'"
        with proxy_of(tmp_path, background, store.url, more, settings=settings) as proxy:
            answers = [ask(proxy) for _ in range(3)]
            assert {each.status for each in answers} == {502}
            assert cause(proxy) == "store-credential"
            assert store.asked == []
    assert caplog.text.count(why) == 1
    # asyncio tells at DEBUG which programs it starts, as the settings have them.
    told = "".join(r.getMessage() for r in caplog.records if r.name.startswith("counterfoil"))
    assert CANARY not in told and all(CANARY.encode() not in each.raw for each in answers)
    assert not left_running(tmp_path)


def left_running(folder: Path) -> list[str]:
    """The processes that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == folder:
                found.append((process / "cmdline").read_text())
    return found


def test_whoever_edits_policies_writes_no_command_and_opens_no_door(tmp_path, monkeypatch):
    """Only a command that counterfoil.yaml has is run, and the proxy's own secrets are shown to no store."""
    monkeypatch.setenv("OWN_KEK", base64.b64encode(bytes(32)).decode())
    monkeypatch.setenv("VAULT_TOKEN", CANARY)
    background = Background()
    try:
        for number, (reference, words) in enumerate(
            (
                ("command:sh -c id", "has no command"),
                ("env:OWN_KEK", "is not set"),
                ("env:VAULT_TOKEN", "is not set"),
                ("file:../kek", "the proxy's own doors"),
                ("file:../x/../kek", "the proxy's own doors"),
            )
        ):
            folder = tmp_path / str(number)
            more = f"credential: '{reference}'"
            settings = "metrics: {port: 0, token: 'env:OWN_KEK'}\n"
            with (
                pytest.raises(Faulty, match=words),
                proxy_of(folder, background, "http://127.0.0.1:1", more, settings=settings),
            ):
                pass
    finally:
        background.close()


# ── tokens in the proxy's own name ──


class Endpoint:
    """A token endpoint that gives `t1`, `t2` …; `says` may take the place of its answer."""

    def __init__(self, *, seconds: int | str | None = 300) -> None:
        self.seconds = seconds
        self.given = 0
        self.says: web.Response | None = None
        self.forms: list[dict[str, str]] = []

    async def answer(self, _: web.BaseRequest, body: bytes) -> web.StreamResponse:
        self.forms.append(dict(parse_qsl(body.decode())))
        if self.says is not None:
            return self.says
        self.given += 1
        said = {"access_token": f"t{self.given}", "token_type": "bearer"}
        if self.seconds is not None:
            said |= {"expires_in": self.seconds}
        return web.json_response(said)


@contextlib.contextmanager
def with_tokens(tmp_path, background, endpoint: Endpoint, *, more: str = "", good=("Bearer t1",)):
    with (
        Guarded(background, wanting(*good)) as store,
        Guarded(background, endpoint.answer) as tokens,
    ):
        entry = (
            f"oauth: {{token_url: '{tokens.url}/token', loopback: true, client: 'the proxy',"
            f" secret: 'file:../secret'{more}}}"
        )
        with proxy_of(tmp_path, background, store.url, entry, secret="s3&cret=") as proxy:
            yield store, tokens, proxy


def test_a_token_is_asked_for_once_and_as_the_standard_says(tmp_path, background):
    """RFC 6749 §4.4 and §2.3.1: the grant in a form, client and secret encoded in Authorization."""
    endpoint = Endpoint()
    more = ", scope: 'a b', resource: 'urn:store'"
    with (
        with_tokens(tmp_path, background, endpoint, more=more) as (store, tokens, proxy),
        ThreadPoolExecutor(8) as pool,
    ):
        assert {each.status for each in pool.map(ask, [proxy] * 16)} == {200}
        ((target, authorization, _),) = tokens.asked
        assert target == "/token" and authorization == basic("the+proxy", "s3%26cret%3D")
        assert endpoint.forms == [
            {"grant_type": "client_credentials", "scope": "a b", "resource": "urn:store"}
        ]
        assert {each[1] for each in store.asked} == {"Bearer t1"}


@pytest.mark.parametrize("seconds", [None, "300", 1e99, 10**400])
def test_how_long_a_token_lasts_may_be_told_oddly(tmp_path, background, seconds):
    """As a text, not at all, or far beyond any key: the token is taken, and one is enough."""
    endpoint = Endpoint(seconds=seconds)
    with with_tokens(tmp_path, background, endpoint) as (_, tokens, proxy):
        assert [ask(proxy).status for _ in range(3)] == [200] * 3
        assert len(tokens.asked) == 1


def test_client_and_secret_go_into_the_form_where_the_endpoint_wants_them_there(
    tmp_path, background
):
    """`authentication: form` (client_secret_post)."""
    endpoint = Endpoint()
    with with_tokens(tmp_path, background, endpoint, more=", authentication: form") as (
        _,
        t,
        proxy,
    ):
        assert ask(proxy).status == 200
        assert t.asked[0][1] is None
        assert endpoint.forms[0]["client_secret"] == "s3&cret="


def test_a_refused_token_is_replaced_once_and_the_request_sent_again(tmp_path, background):
    """401 before the first byte: one new token, one more try; then 502 and no further token for a while."""
    endpoint = Endpoint()
    with with_tokens(tmp_path, background, endpoint) as (store, _, proxy):
        assert ask(proxy).status == 200
        store.answer = wanting("Bearer t2")
        assert ask(proxy).status == 200
        assert [each[1] for each in store.asked] == ["Bearer t1", "Bearer t1", "Bearer t2"]
        store.answer = wanting()
        for _ in range(5):
            assert ask(proxy).status == 502
        assert endpoint.given == 2


@pytest.mark.threat("E40", "E49")
def test_an_endpoint_s_redirect_is_not_followed(tmp_path, background):
    """The client's secret goes to the catalogued endpoint alone."""
    endpoint = Endpoint()
    trap = Guarded(background, wanting())
    with trap, with_tokens(tmp_path, background, endpoint) as (store, _, proxy):
        for status in (301, 302, 307, 308):
            endpoint.says = web.Response(status=status, headers={"Location": trap.url})
            assert ask(proxy).status == 502
        assert cause(proxy) == "store-credential"
        assert trap.asked == store.asked == []


@pytest.mark.parametrize(
    "says",
    [
        lambda: web.Response(status=500, text=CANARY),
        lambda: web.json_response({"error": "invalid_client", "more": CANARY}, status=401),
        lambda: web.Response(text=CANARY),
        lambda: web.Response(body=b"x" * 70_000),
        lambda: web.Response(body=b"[" * 60_000),
        lambda: web.Response(body=b'{"x":' + b"[" * 60_000),
        lambda: web.Response(body=b'{"x":' + b"[" * 60_000, status=400),
        lambda: web.Response(
            body=b'{"access_token":"x","token_type":"Bearer","expires_in":-1' + b"0" * 400 + b"}"
        ),
        lambda: web.json_response({"access_token": CANARY + "\r\nX: y", "token_type": "Bearer"}),
        lambda: web.json_response({"access_token": CANARY, "token_type": "mac"}),
        lambda: web.json_response({"access_token": "", "token_type": "Bearer"}),
        lambda: web.json_response({"access_token": 7, "token_type": "Bearer"}),
        lambda: web.json_response(
            {"access_token": CANARY, "token_type": "Bearer", "expires_in": 0}
        ),
        lambda: web.json_response(
            {"access_token": CANARY, "token_type": "Bearer", "expires_in": "soon"}
        ),
    ],
)
def test_an_answer_that_is_no_token_is_none(tmp_path, background, caplog, says):
    """502, the store is not asked; and no word of the answer, nor of the secret, is in log or answer."""
    caplog.set_level(logging.DEBUG)
    endpoint = Endpoint()
    with with_tokens(tmp_path, background, endpoint) as (store, _, proxy):
        endpoint.says = says()
        answer = ask(proxy)
        assert answer.status == 502 and cause(proxy) == "store-credential"
        assert store.asked == []
    for secret in (CANARY, "s3&cret="):
        assert secret not in caplog.text and secret.encode() not in answer.raw
    assert "cannot be had" in caplog.text


def test_a_token_that_is_about_to_end_is_replaced_while_it_serves(tmp_path, background):
    """While the endpoint is away the old token serves; once it has ended, there is none: 502."""
    endpoint = Endpoint(seconds=3)
    with with_tokens(tmp_path, background, endpoint, good=("Bearer t1", "Bearer t2")) as (
        store,
        tokens,
        proxy,
    ):
        assert ask(proxy).status == 200
        kept = next(proxy.app.gateway.stores).credential
        kept._due -= 2.5  # as if that much of its life were over
        tokens.close()
        assert ask(proxy).status == 200  # and a new one is asked for, in vain
        kept._ends = kept._due
        assert ask(proxy).status == 502
        assert {each[1] for each in store.asked} == {"Bearer t1"}
        tokens.start()
        kept._not_before = 0  # as if the pause were over
        assert ask(proxy).status == 200
        assert store.asked[-1][1] == "Bearer t2"


# ── certificates ──


def mutual(authority: pki.Authority, clients: pki.Authority, folder: Path) -> ssl.SSLContext:
    """What a store uses that asks for a client's certificate."""
    folder.mkdir(exist_ok=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        *authority.issue(*pki.LOCAL, usage=pki.SERVER).write(folder, "store-server")
    )
    context.load_verify_locations(cadata=clients.pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    return context


TLS = "tls: {authority: ../ca.pem, certificate: ../proxy.crt, key: ../proxy.key}"


@pytest.fixture
def authorities():
    return pki.Authority("Stores"), pki.Authority("Clients")


@pytest.fixture
def mtls(tmp_path, background, authorities):
    stores, clients = authorities
    tls = mutual(stores, clients, tmp_path / "server")

    async def answer(request: web.BaseRequest, _: bytes) -> web.Response:
        assert request.transport is not None
        shown = dict(pair for ((pair),) in request.transport.get_extra_info("peercert")["subject"])
        return web.Response(body=CSV.replace(b"North", shown["commonName"].encode()),
                            content_type="text/csv")  # fmt: skip

    with Guarded(background, answer, tls=tls) as store:
        yield store


def shown(folder: Path, authorities, *, common: str = "proxy-one") -> None:
    stores, clients = authorities
    (folder / "ca.pem").write_bytes(stores.pem)
    clients.issue(common=common).write(folder, "proxy")


def test_a_store_knows_the_proxy_by_its_certificate_and_the_new_one_by_its_file(
    tmp_path, background, authorities, mtls
):
    """Mutual TLS; a certificate and key that are replaced are taken with the next connection, all or nothing."""
    folder = tmp_path / "proxy"
    folder.mkdir()
    shown(folder, authorities)
    with proxy_of(folder, background, mtls.url, TLS) as proxy:
        answer = ask(proxy)
        assert answer.status == 200 and b"proxy-one" in answer.body
        good = (folder / "proxy.key").read_bytes()
        (folder / "proxy.key").write_bytes(authorities[1].issue().key)
        assert not proxy.reload()  # a key of another certificate
        assert b"proxy-one" in ask(proxy).body
        (folder / "proxy.key").write_bytes(good)
        shown(folder, authorities, common="proxy-two")
        assert proxy.reload()
        assert b"proxy-two" in ask(proxy).body


def test_what_stands_between_certificates_is_in_any_language(
    tmp_path, background, authorities, mtls
):
    """Bundles of authorities name them in UTF-8 above each; that is no part of PEM."""
    folder = tmp_path / "proxy"
    folder.mkdir()
    shown(folder, authorities)
    for name in ("ca.pem", "proxy.crt", "proxy.key"):
        text = (folder / name).read_bytes()
        (folder / name).write_bytes("# Főtanúsítvány\n".encode() + text + b"\xff\n")
    with proxy_of(folder, background, mtls.url, TLS) as proxy:
        assert ask(proxy).status == 200


def test_a_store_that_another_authority_signed_is_sent_nothing(
    tmp_path, background, authorities, mtls
):
    """502 before a byte of the request is sent, and it is not tried again."""
    folder = tmp_path / "proxy"
    folder.mkdir()
    shown(folder, (pki.Authority("Stores"), authorities[1]))
    with proxy_of(folder, background, mtls.url, TLS + ", credential: 'file:../t'", t="x") as proxy:
        assert ask(proxy).status == 502 and cause(proxy) == "store-unreachable"
        assert mtls.asked == []
        assert next(proxy.app.gateway.stores).retried == 0


def test_without_its_certificate_the_proxy_is_given_nothing(
    tmp_path, background, authorities, mtls
):
    """The store demands one: 502."""
    folder = tmp_path / "proxy"
    folder.mkdir()
    shown(folder, authorities)
    only = "tls: {authority: ../ca.pem}"
    with proxy_of(folder, background, mtls.url, only) as proxy:
        assert ask(proxy).status == 502
        assert mtls.asked == []


def test_a_key_leaves_nothing_on_the_disk(tmp_path, background, authorities, mtls, monkeypatch):
    """OpenSSL reads files alone: what it is given has no name, and is gone."""
    folder, temporary = tmp_path / "proxy", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    shown(folder, authorities)
    with proxy_of(folder, background, mtls.url, TLS) as proxy:
        assert ask(proxy).status == 200
        held = []
        for each in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                held.append(str(each.readlink()))
    assert not any("memfd:counterfoil" in each for each in held)
    assert list(temporary.iterdir()) == []
