"""A credential's secret, as it is now: of a file, or what a command of the operator's prints.

What a command may be is said in counterfoil.yaml alone: whoever edits policies names one, and writes none.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy import documents
from proxy.credentials import Secret
from proxy.upstream.kept import Lasting, Unavailable

MOST: Final = 8192
"""Bytes of a secret."""
_END_SECONDS: Final = 1
_PLAIN: Final = re.compile(r"[\x21-\x7e]+\Z")
_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """What prints a secret: a program and its arguments, run without a shell."""

    name: str
    argv: tuple[str, ...]
    seconds: float
    """For how long what it prints counts."""
    timeout: float
    """Seconds that it may take."""
    environment: tuple[str, ...] = ()
    """The variables that it is given beside the usual ones."""
    folder: Path


class Secrets:
    """Reads them."""

    def __init__(self, commands: Mapping[str, Command], environment: Mapping[str, str]) -> None:
        self._commands = commands
        self._environment = environment

    async def read(self, secret: Secret) -> Lasting:
        """The secret and for how long it counts; raises Unavailable."""
        match secret.kind:
            case "file":
                return Lasting(await asyncio.to_thread(_content, Path(secret.place)))
            case "command":
                command = self._commands.get(secret.place)
                if command is None:
                    raise Unavailable(f"there is no command `{secret.place}`")
                return Lasting(await self._run(command), command.seconds)
            case _:
                if secret.value is None:
                    raise Unavailable("the environment does not have it")
                return Lasting(secret.value)

    async def _run(self, command: Command) -> str:
        names = (*_ENVIRONMENT, *command.environment)
        try:
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # it may hold anything
                env={n: self._environment[n] for n in names if n in self._environment},
                cwd=command.folder,
                start_new_session=True,
            )
        except OSError as exc:
            raise Unavailable(f"the command `{command.name}` does not run: {exc.strerror}") from exc
        assert process.stdout is not None
        printed = bytearray()
        try:
            async with asyncio.timeout(command.timeout):
                while len(printed) <= MOST and (some := await process.stdout.read(MOST)):
                    printed += some
                if len(printed) > MOST:
                    raise Unavailable(f"the command `{command.name}` prints over {MOST} bytes")
                status = await process.wait()
        except BaseException as exc:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
            await asyncio.shield(_ended(process))
            if isinstance(exc, TimeoutError):
                text = f"the command `{command.name}` takes over {command.timeout:g} seconds"
                raise Unavailable(text) from exc
            raise
        if status:
            raise Unavailable(f"the command `{command.name}` ends with status {status}")
        return _plain(bytes(printed))


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Until a killed process is no more; what it printed is read, for before that its end is not told."""
    assert process.stdout is not None
    with suppress(TimeoutError):  # something that it has started elsewhere may hold the pipe
        async with asyncio.timeout(_END_SECONDS):
            while await process.stdout.read(MOST):
                pass
            await process.wait()


def _content(path: Path) -> str:
    try:
        raw = documents.read_file(path, most=MOST)
    except OSError as exc:
        raise Unavailable(f"its file cannot be read: {exc.strerror}") from exc
    return _plain(raw)


def _plain(raw: bytes) -> str:
    """One line, without its end."""
    text = raw.decode("latin-1").removesuffix("\n").removesuffix("\r")
    if not _PLAIN.match(text):
        raise Unavailable("it is empty or has characters that no secret has")
    return text
