"""Much work on policies beside requests: containers freed piece by piece, and turns that are short.

To free 100,000 lines at once takes the interpreter some 50 ms, in which it serves nobody: it can change
threads between two steps of a program, and that is one step.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

_PIECE: Final = 500
_SWITCH_SECONDS: Final = 0.0005
"""How long work may keep the interpreter from a request (Python's own choice is ten times that)."""

T = TypeVar("T")
Containers = tuple[list[Any] | dict[Any, Any], ...]


@contextmanager
def yielding() -> Iterator[None]:
    """Let requests have the interpreter often while a big policy is parsed beside them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def let_go(*containers: list[Any] | dict[Any, Any]) -> None:
    """Empty the containers; what nothing else holds is freed."""
    for container in containers:
        if isinstance(container, list):
            while container:
                del container[-_PIECE:]
        else:
            while container:
                container.popitem()


def free_gently(owner: object, containers: Containers) -> None:
    """Have the containers of an object emptied in a thread, once nothing holds the object any more."""
    weakref.finalize(owner, _begin_to_let_go, containers).atexit = False


def _begin_to_let_go(containers: Containers) -> None:
    threading.Thread(target=let_go, args=containers, name="a policy's end", daemon=True).start()


def used_up(items: list[T]) -> Iterator[T]:
    """The items in their order; each is let go of before the next one."""
    items.reverse()
    while items:
        yield items.pop()
