"""What the process says of itself on stderr: lines for people, or one JSON object a line.

{"time":"2026-11-28T22:00:00.123Z","level":"warning","logger":"counterfoil","message":"…","access":"01a2…"}

No message holds a value of a report, a token or a credential; what became of an access is in the access
log, which `access` leads to.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from types import TracebackType
from typing import Final

import msgspec

from proxy.errors import where

_Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
_TEXT: Final = "%(asctime)s %(levelname)s %(name)s{}: %(message)s"


class Text(logging.Formatter):
    """A line for people; of several processes each says which it is."""

    def __init__(self, process: str = "") -> None:
        super().__init__(_TEXT.format(f" [{process}]" if process else ""))

    def formatException(self, ei: _Raised) -> str:  # noqa: N802 - logging's name
        """Where in the program it arose, as in JSON: its message may hold a value."""
        return "" if ei[1] is None else where(ei[1])


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line for programs."""

    time: str
    """RFC 3339, in UTC."""
    level: str
    logger: str
    message: str
    access: str | None = None
    """The id of the access that it is about, as `Counterfoil-Event` has it."""
    process: str | None = None
    """Which of several processes says so."""
    error: str | None = None
    """Where in the program something arose, without its message."""


class Json(logging.Formatter):
    """One JSON object a line, whatever it holds."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = process or None

    def format(self, record: logging.LogRecord) -> str:
        """The line; never more than one."""
        error = record.exc_info[1] if record.exc_info else None
        line = Line(
            time=datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            level=record.levelname.lower(),
            logger=record.name,
            message=encodable(record.getMessage()),
            access=getattr(record, "access", None),
            process=self._process,
            error=None if error is None else where(error),
        )
        # In ASCII: what cuts a line in two somewhere (U+2028, say) is an escape.
        return json.dumps(msgspec.to_builtins(line), separators=(",", ":"))


def encodable(text: str) -> str:
    """The same, but for halves of characters, which a file's name may hold."""
    return text.encode("utf-8", "backslashreplace").decode()
