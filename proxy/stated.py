"""What somebody states with a command: why, and for how long."""

from __future__ import annotations

from typing import Final

SHORTEST: Final = 60
LONGEST: Final = 366 * 86_400
"""How long a grant may last, in seconds."""
MOST_REASON: Final = 500
"""Most characters of a reason."""


def plain(text: str) -> str:
    """A text for a comment line: one line, nothing unseen or reordering, at most 500 characters."""
    seen = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(seen.split())[:MOST_REASON]
