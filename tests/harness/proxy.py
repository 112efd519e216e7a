"""A folder with everything that a proxy needs, and the proxy running on it."""

from __future__ import annotations

import base64
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from proxy import config
from proxy.access import AccessEvent, decode
from proxy.app import App
from proxy.audit.postgres.database import Database
from proxy.keys import file as keyring_file
from proxy.keys.kek import kek_of
from proxy.policy.rules import MODEL
from tests.harness import telltale, wire
from tests.harness.background import Background
from tests.harness.issuer import AUDIENCE, Issuer
from tests.harness.postgres import PASSWORD, psql, url_of
from tests.harness.store import Store

SUBJECTS = f"""\
issuers:
  - issuer: {{issuer}}
    prefix: ""
    audience: [{AUDIENCE}]
    keys: {{{{file: jwks.json}}}}
    algorithms: [ES256]
    groups: {{{{claim: groups}}}}
    attributes:
      stores: {{{{claim: stores, type: text, many: true}}}}
      region: {{{{claim: region, type: text}}}}
      level: {{{{claim: level, type: integer}}}}
"""
ACT = "p, tool:app, {report}, act, true, allow\n"


class Home:
    """`folder/counterfoil.yaml`, its policies, keys and log; `reports` may name the store as {store}.

    `settings` are more lines of counterfoil.yaml, `listen` more of that. Where there is a `database`, the log is
    in that.
    """

    def __init__(
        self,
        folder: Path,
        *,
        reports: str,
        rules: str,
        store: str = "",
        settings: str = "",
        listen: str = "",
        database: Database | None = None,
    ) -> None:
        self.folder = folder
        self.database = database
        self.issuer = Issuer()
        self.policies = folder / "policies"
        self.policies.mkdir(parents=True)
        self.write("model.conf", MODEL)
        self.write("jwks.json", self.issuer.jwks)
        self.write("subjects.yaml", SUBJECTS.format(issuer=self.issuer.name))
        self.write("reports.yaml", reports.replace("{store}", store))
        self.write("policy.csv", rules)
        kek = folder / "kek"
        kek.write_text(base64.b64encode(os.urandom(32)).decode())
        kek.chmod(0o600)
        keyring_file.create(folder / "keyring.json", kek_of(f"file:{kek}", {}))
        if database is not None:
            (folder / "password").write_text(PASSWORD)
            where = f"url: '{url_of(database)}', password: 'file:password'"
            settings += f"database: {{{where}}}\n"
        self.settings = folder / "counterfoil.yaml"
        self.settings.write_text(
            f"listen: {{host: 127.0.0.1, port: 0{listen}}}\n"
            "policies: policies\n"
            "log: access.db\n"
            'keyring: {file: keyring.json, key_encryption_key: "file:kek"}\n' + settings
        )

    def events(self) -> list[AccessEvent]:
        """All that the access log holds, read where it is."""
        if self.database is None:
            return events(self.folder / "access.db")
        asked = "SELECT encode(entry, 'hex') FROM counterfoil.leaf ORDER BY number"
        return [decode(bytes.fromhex(line)) for line in psql(self.database, asked).splitlines()]

    def write(self, name: str, text: str) -> None:
        (self.policies / name).write_text(text, encoding="utf-8")


class Proxy:
    """A running proxy; `get` asks it over a real socket."""

    def __init__(self, home: Home, background: Background) -> None:
        self.home = home
        self.issuer = home.issuer
        self._background = background
        self.app = App(config.load(home.settings, os.environ))
        background.run(self.app.__aenter__())
        self.url = self.app.url

    def close(self) -> None:
        self._background.run(self.app.__aexit__(None, None, None))

    def reload(self) -> bool:
        return self._background.run(self.app.reload())

    def get(self, target: str, *, token: str | None = None, **more: object) -> wire.Answer:
        return wire.get(self.url, target, token=token, **more)  # type: ignore[arg-type]

    def events(self) -> list[AccessEvent]:
        """All that the access log holds."""
        return self.home.events()


def events(path: Path) -> list[AccessEvent]:
    """The events of a log file, in the order in which they were committed."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT entry FROM leaf ORDER BY number")
        entries = [bytes(entry) for (entry,) in rows]
    for entry in entries:
        telltale.check(entry.decode(), "an event")
    return [decode(entry) for entry in entries]


@contextmanager
def running(home: Home, background: Background) -> Iterator[Proxy]:
    proxy = Proxy(home, background)
    try:
        yield proxy
    finally:
        proxy.close()


@contextmanager
def stage(
    folder: Path, *, reports: str, rules: str, settings: str = "", listen: str = ""
) -> Iterator[tuple[Store, Proxy]]:
    """A store and a proxy in front of it."""
    background = Background()
    try:
        store = Store(background)
        try:
            home = Home(
                folder,
                reports=reports,
                rules=rules,
                store=store.url,
                settings=settings,
                listen=listen,
            )
            with running(home, background) as proxy:
                yield store, proxy
        finally:
            store.close()
    finally:
        background.close()
