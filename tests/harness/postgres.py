"""A real PostgreSQL server, for the tests of the access log in a database: started, stopped, cut off.

It is of Debian's package `postgresql`, or any whose programs are found; as root it runs as another user.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.audit.postgres.database import Database
from tests.harness.background import Background
from tests.peers.running import free_port

PASSWORD = "open sesame, said the canary"


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    path = shutil.which("initdb")
    return Path(path).resolve().parent if path else None


def psql(database: Database, *statements: str) -> str:
    """What a program prints that is no one's here: rows of cells between `|`."""
    where = programs()
    assert where is not None
    words = [word for each in statements for word in ("-c", each)]
    done = subprocess.run(  # noqa: PLW1510 - what it said is told with its status
        [
            where / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", database.host,
            "-p", str(database.port), "-U", database.role, "-d", database.name, *words,
        ],
        env={"PATH": os.environ["PATH"], "PGPASSWORD": database.password or ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()


WRITERS = (
    "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
    " WHERE locktype = 'advisory' AND datname = current_database()"
)
"""How many locks of an access log are held: each writer holds that of its log."""


def url_of(database: Database) -> str:
    """As settings name it."""
    return f"postgresql://{database.role}@{database.host}:{database.port}/{database.name}"


def given(url: str) -> Database | None:
    """The database that another process of a test was given, or none."""
    return replace(Database.parse(url), password=PASSWORD) if url else None


class Server:
    """A server with a cluster of its own, on a socket and on a port of loopback."""

    def __init__(self) -> None:
        where = programs()
        assert where is not None
        self._programs = where
        self._user = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
        self.folder = Path(tempfile.mkdtemp(prefix="counterfoil-postgres-"))
        self.port = free_port()
        if self._user is not None:
            who = pwd.getpwnam(self._user)
            os.chown(self.folder, who.pw_uid, who.pw_gid)
        (self.folder / "password").write_text(PASSWORD)
        (self.folder / "password").chmod(0o644)
        self._do(
            "initdb", "-D", self.folder / "data", "-U", "counterfoil", "--auth=scram-sha-256",
            f"--pwfile={self.folder / 'password'}", "-E", "UTF8", "--locale=C", "--no-instructions",
        )  # fmt: skip
        self._count = 0
        self.start()

    def _do(self, program: str, *words: object) -> None:
        done = subprocess.run(  # noqa: PLW1510 - what it said is told with its status
            [self._programs / program, *map(str, words)], user=self._user, cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
            " -c shared_buffers=32MB -c max_connections=60"
        )
        log = self.folder / "log"
        self._do("pg_ctl", "-D", self.folder / "data", "-w", "-l", log, "-o", options, "start")

    def stop(self, how: str = "immediate") -> None:
        self._do("pg_ctl", "-D", self.folder / "data", "-w", "-m", how, "stop")

    def psql(self, *statements: str, database: str = "postgres") -> str:
        """As its owner would type them."""
        return psql(self.database(database), *statements)

    def limit(self, process: int, size: int | str) -> None:
        """Let a process of the server write no file beyond so many bytes."""
        words = ["prlimit", "--pid", str(process), f"--fsize={size}:unlimited"]
        subprocess.run(words, user=self._user, check=True)

    def new(self) -> Database:
        """A database with nothing in it."""
        self._count += 1
        name = f"audit_{self._count}"
        self.psql(f"CREATE DATABASE {name}")
        return self.database(name)

    def database(self, name: str, *, port: int = 0) -> Database:
        return Database(
            role="counterfoil",
            host="127.0.0.1",
            port=port or self.port,
            name=name,
            password=PASSWORD,
        )

    def close(self) -> None:
        with suppress(AssertionError):
            self.stop()
        shutil.rmtree(self.folder)


@contextmanager
def serving() -> Iterator[Server]:
    """A server, or a skip where no programs of one are here."""
    if programs() is None:
        pytest.skip("PostgreSQL's programs are not here: apt-get install postgresql")
    server = Server()
    try:
        yield server
    finally:
        server.close()


class Wire:
    """What lies between a proxy and its database: lets all through, until it is cut.

    `cut` says what becomes of the next request that holds `canary`: it does not arrive (`before`), its answer
    does not (`after`), or its sender is gone and the server does not notice (`hung`). While `refusing`, nobody
    gets through; `refuses_then` makes it so once an answer was lost.
    """

    def __init__(self, background: Background, to: int) -> None:
        self._background = background
        self._to = to
        self.cut = ""
        self.canary = b"cut-me"
        self.refusing = False
        self.refuses_then = False
        self._held: list[asyncio.StreamWriter] = []
        self._server = background.run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        there, out = await asyncio.open_connection("127.0.0.1", self._to)
        self._held += [writer, out]
        cut = asyncio.Event()

        async def back() -> None:
            while data := await there.read(65536):
                if cut.is_set():
                    return
                writer.write(data)
            writer.close()

        answers = asyncio.create_task(back())
        with suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                how, self.cut = (self.cut, "") if self.canary in data else ("", self.cut)
                if how:
                    cut.set()
                if how != "before":
                    out.write(data)
                if how == "after":
                    await answers  # the server has answered: it is committed
                    self.refusing = self.refuses_then
                if how:
                    writer.transport.abort()
                    if how != "hung":
                        out.transport.abort()
                    return
        out.close()
        answers.cancel()

    def close(self) -> None:
        async def close() -> None:
            self._server.close()
            for each in self._held:
                each.transport.abort()

        self._background.run(close())
