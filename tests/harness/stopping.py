"""`counterfoil serve` that kills itself at a named step: forked from a process that has imported all of it.

A program, not a module for tests: `killed.py` starts it and speaks to it over a socket, whose descriptor it is told.
The product has no hook for this: a function of it is replaced by one that calls it, in this process alone,
and at the step the process sends itself SIGKILL. Without a step it is the product as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Fork for each message: its bytes are a server's settings, its descriptor is what it prints to."""
    importlib.import_module("proxy.cli.serve")  # and with it all else
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("proxy.audit.postgres.ledger")
        importlib.import_module("proxy.audit.postgres.mirror")
    from proxy.cli import main as counterfoil

    _die_with_parent()
    control = socket.socket(fileno=int(sys.argv[1]))
    while True:
        message, received, _, _ = socket.recv_fds(control, 1 << 16, 1)
        if not message:
            return
        (output,) = received
        asked = json.loads(message)
        pid = os.fork()
        if pid == 0:
            _die_with_parent()
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            control.close()
            if asked["step"]:
                _kill_at(**asked["step"])
            sys.argv = ["counterfoil", "serve", "-c", asked["settings"]]
            counterfoil()
            os._exit(0)
        os.close(output)
        control.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        control.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def _kill_at(
    target: str, *, after: bool, only: str, number: int, constants: dict[str, int]
) -> None:
    """Kill this process before or after call `number` of the function, of those with `only` among what it is
    given: a word, the step of an event, the name of a file.
    """
    for constant, value in constants.items():
        module, name = constant.split(":")
        setattr(importlib.import_module(module), name, value)
    module, names = target.split(":")
    *path, name = names.split(".")
    owner: Any = functools.reduce(getattr, path, importlib.import_module(module))
    real: Callable[..., Any] = getattr(owner, name)
    left = number

    def due(given: tuple[object, ...]) -> bool:
        nonlocal left
        if only and only not in map(_word, given):
            return False
        left -= 1
        return left == 0

    @functools.wraps(real)
    def stopped(*given: Any, **named: Any) -> Any:
        if not due(given):
            return real(*given, **named)
        if not after:
            _die()
        result = real(*given, **named)
        _die()
        return result

    @functools.wraps(real)
    async def stopped_later(*given: Any, **named: Any) -> Any:
        if not due(given):
            return await real(*given, **named)
        if not after:
            _die()
        result = await real(*given, **named)
        _die()
        return result

    setattr(owner, name, stopped_later if asyncio.iscoroutinefunction(real) else stopped)


def _word(given: object) -> str:
    if isinstance(given, Path):
        return given.name
    return given if isinstance(given, str) else str(getattr(given, "step", ""))


if __name__ == "__main__":
    main()
