"""What must be in no log and no event, in any test: cells of reports that have canaries in them, and tokens."""

from __future__ import annotations

import logging
import re

PATTERN = re.compile(r"canary[0-9]+@buyers\.example|eyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}")
"""A buyer of `sales.rows`, and a token as it is presented."""


def check(text: str, where: str) -> None:
    """Raise AssertionError where `text` tells, without repeating what."""
    found = PATTERN.search(text)
    if found is not None:
        before = text[max(0, found.start() - 60) : found.start()]
        raise AssertionError(f"{where} tells a value or a token after {before!r}")


class Listener(logging.Handler):
    """Hears every logger at its most talkative."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.wrong = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Note the first record that tells."""
        try:
            check(self.format(record), f"a record of the logger {record.name}")
        except AssertionError as error:
            self.wrong = self.wrong or str(error)
