"""The attacks that must fail, and how many tests hold each: `make threats` prints the table.

A test says which lines it holds by `@pytest.mark.threat("A1")`. What it looks for, unless its line says
otherwise: no confidential value in raw bytes, headers, logs or metrics; one access event; on 4xx the store
saw nothing.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections import Counter
from collections.abc import Mapping

import pytest

LINES = {
    # Request target
    "A1": "`..`, `/./`, `%2e%2e`, `.%2e` are 400",
    "A2": "`//`, a trailing `/`, `\\`, `%5C`, `%2F` are 400 or 404, never another report's rule",
    "A3": "`%252e`, `%252F` are 404: a target is decoded once only",
    "A4": "`/..;a=b/`, `;v=1` are 400",
    "A5": "`%00`, `%zz`, `%ff`, overlong UTF-8 are 400",
    "A6": "`%3Fa=1`, `#f`, `%23` are 400, and never become a query",
    "A7": "case, NFC/NFD and fullwidth variants of a report are 404",
    "A8": "an absolute target is 400, a foreign Host 421: the store's URL comes from the catalogue alone",
    "A9": "fields that other proxies believe have no effect and are not passed on",
    "A10": "of a client's Cookie, Authorization, Accept-Encoding the store sees nothing",
    "A11": "other methods on a report are 405, and CONNECT opens no tunnel",
    "A12": "Upgrade gets no 101 but one answer, with a body and without",
    "A13": "a health check's User-Agent or path opens no report",
    # Framing and load
    "B14": "framing that could be read in two ways is 400, closed, and not echoed",
    "B15": "the body of a GET that holds a second request is one answer and one event",
    "B16": "a token in a chunked trailer is ignored",
    "B17": "slow heads and bodies are closed by a deadline, and keep nobody else waiting",
    "B18": "huge targets, heads, trailers and pipelines are refused, in bounded memory",
    "B19": "a client that stops reading stops the store, is let go, and is on record with what it got",
    "B20": "a compressed request is refused, not unpacked",
    "B21": "one subject with 500 reports at once gets 429, and others do not notice",
    # Identity
    "C22": "alg none, absent, and HS256 keyed with the public key are 401",
    "C23": "key ids and keys that a token brings along are 401, and cause no call",
    "C24": "crit, nested JWT and JWE are 401",
    "C25": "required claims that are missing or of another type, and times beyond the skew, are 401",
    "C26": "an ID token, and a token for another client, are 401",
    "C27": "a token of 5 MB, a payload 100,000 deep are 401, at once",
    "C28": "random key ids fetch a key set once per cool-down; known keys survive an outage",
    "C29": "of a key set that is bad the bad part is refused, and the good keys work",
    "C30": "a key that was rotated out, and a replayed token where that is looked for, are 401",
    "C31": "a client certificate that is expired, future, of another CA, not for clients or revoked, and any"
    " once the list of revoked ones is stale: no handshake, or 401",
    # Store responses
    "E40": "a redirect is 502, Location is absent, the credential is not sent again",
    "E41": "a store's error, its body and reason are a generic 502",
    "E42": "of a store's fields only those of a list go through",
    "E43": "a range gives the requester's own view; a 206 that was not asked for is 502",
    "E44": "no validator and no length of the store's comes through; private, no-store",
    "E45": "parameters that are unlisted, repeated or joined are 400",
    "E46": "a content coding that is unknown, doubled or sent twice is 502",
    "E47": "a decompression bomb is 502 at the cap, in bounded memory",
    "E48": "a store that hangs or drips is 504, and others are not affected",
    "E49": "a link-local or metadata address is refused, loopback unless it is allowed by name",
    # Inference
    "G59": "two stores that differ in what is hidden give the same bytes",
    "G60": "a forbidden report is as an unknown one",
    "G61": "pseudonyms join no reports unless that is stated",
    "G62": "a ciphertext that was moved is not opened, and no nonce comes twice",
    "G63": "groups below k are suppressed, and no difference gives them away",
    "G64": "the same noisy query has the same noise",
    # Audit
    "H65": "line ends, escapes and quotes in what is recorded are one event, and the log verifies",
    "H66": "a disk that is full, failing or read-only is 503, and not one byte of a body",
    "H67": "killed at each step, the intent is on record and the verifier names what is open",
    "H68": "a tail dropped, a bit flipped, entries reordered or spliced: verification names the place",
    "H69": "with clocks a day off and two writers each log is contiguous",
    "H70": "at DEBUG there is no cell, token or credential in logs, traces, metrics",
}


class _Counter:
    """Counts the collected tests by line."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self.found.update({line for mark in item.iter_markers("threat") for line in mark.args})


def wrong(found: Mapping[str, int]) -> list[str]:
    """What is not as it must be: lines that no test holds, and what tests name that is no line."""
    return [
        *(
            f"{line} is held by no test: {text}"
            for line, text in LINES.items()
            if not found.get(line)
        ),
        *(
            f"{line} is named by a test, and is no line"
            for line in sorted(found.keys() - LINES.keys())
        ),
    ]


def main() -> int:
    """Print the table; 1 where tests cannot be collected, a line has none, or one names what is no line."""
    counter, told = _Counter(), io.StringIO()
    with contextlib.redirect_stdout(told):
        status = pytest.main(["--collect-only", "-qq"], [counter])
    if status != pytest.ExitCode.OK:
        print(told.getvalue())
    for line, text in LINES.items():
        print(f"{line:4} {counter.found[line]:5}  {text}")
    print(
        f"     {counter.found.total():5}  in all, for {len(+counter.found)} of {len(LINES)} lines"
    )
    faults = wrong(counter.found)
    for fault in faults:
        print(fault)
    return 1 if faults or status != pytest.ExitCode.OK else 0


if __name__ == "__main__":
    sys.exit(main())
