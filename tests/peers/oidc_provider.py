"""oidc-provider (npm), a certified OpenID provider, and somebody who logs in there as a browser would."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

HERE = Path(__file__).parent / "oidc"
CALLBACK = "https://app.example/cb"
RESOURCE = "urn:counterfoil"
OPAQUE = "urn:counterfoil:opaque"


def installed() -> bool:
    return shutil.which("node") is not None and (HERE / "node_modules/oidc-provider").is_dir()


def signing_key(algorithm: str, kid: str) -> dict[str, Any]:
    """A new private JSON Web Key."""
    private: Any
    if algorithm == "RS256":
        private = rsa.generate_private_key(65537, 2048)
        made = jwt.algorithms.RSAAlgorithm.to_jwk(private, as_dict=True)
    else:
        private = ec.generate_private_key(ec.SECP256R1())
        made = jwt.algorithms.ECAlgorithm.to_jwk(private, as_dict=True)
    made.pop("key_ops", None)
    return {**made, "kid": kid, "alg": algorithm, "use": "sig"}


class _Stop(urllib.request.HTTPRedirectHandler):
    """Follows redirects, as a browser does, until one leads back to the client."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if newurl.startswith(CALLBACK):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class OidcProvider:
    """One running provider."""

    def __init__(self, *, algorithm: str, keys: Sequence[dict[str, Any]]) -> None:
        self._settings: dict[str, Any] = {
            "port": 0, "algorithm": algorithm, "keys": keys, "seconds": 600,
        }  # fmt: skip
        self.issuer = ""
        self.start()

    def start(self) -> None:
        """Begin; again, where it was, after a stop."""
        self._process = subprocess.Popen(
            ["node", HERE / "provider.js"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._tell()

    def configure(self, *, algorithm: str, keys: Sequence[dict[str, Any]]) -> None:
        """Go on with other keys."""
        self._settings |= {"algorithm": algorithm, "keys": keys}
        self._tell()

    def _tell(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(self._settings) + "\n")
        self._process.stdin.flush()
        said_back = iter(self._process.stdout.readline, "")  # beside notices of its own
        ready = next((line for line in said_back if line.startswith("ready ")), "")
        assert ready, "it ended before it listened"
        self.issuer = ready.split()[1]
        self._settings["port"] = int(self.issuer.rpartition(":")[2])

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(20)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def log_in(self, name: str, *, resource: str = RESOURCE) -> dict[str, Any]:
        """The tokens that `app` gets for somebody who logs in and consents (authorization code, PKCE)."""
        browser = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(CookieJar()),
            _Stop(),
            urllib.request.ProxyHandler({}),
        )
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        question = {
            "client_id": "app", "response_type": "code", "redirect_uri": CALLBACK, "resource": resource,
            "scope": "openid read", "code_challenge": challenge.rstrip(b"=").decode(),
            "code_challenge_method": "S256", "nonce": "n",
        }  # fmt: skip
        with browser.open(f"{self.issuer}/auth?{urllib.parse.urlencode(question)}") as page:
            at = page.url
        login = {"prompt": "login", "login": name, "password": "any"}
        with browser.open(at, urllib.parse.urlencode(login).encode()) as page:
            at = page.url
        try:
            browser.open(at, b"prompt=consent").close()
        except urllib.error.HTTPError as back:
            with back:
                location = back.headers["Location"]
        (code,) = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)["code"]
        return self._token(
            grant_type="authorization_code", code=code, redirect_uri=CALLBACK, code_verifier=verifier,
            resource=resource,
        )  # fmt: skip

    def as_client(self) -> dict[str, Any]:
        """The token that `app` gets for itself."""
        return self._token(grant_type="client_credentials", resource=RESOURCE, scope="read")

    def revoke(self, token: str) -> None:
        self._post("/token/revocation", token=token)

    def _token(self, **form: str) -> dict[str, Any]:
        return dict(json.loads(self._post("/token", **form)))

    def _post(self, path: str, **form: str) -> bytes:
        basic = base64.b64encode(b"app:app-secret").decode()
        request = urllib.request.Request(
            self.issuer + path,
            urllib.parse.urlencode(form).encode(),
            {"Authorization": f"Basic {basic}"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request) as answer:
            return bytes(answer.read())


@contextmanager
def providing(algorithm: str, *kids: str) -> Iterator[OidcProvider]:
    made = OidcProvider(
        algorithm=algorithm, keys=[signing_key(algorithm, kid) for kid in kids or ("first",)]
    )
    try:
        yield made
    finally:
        made.stop()
