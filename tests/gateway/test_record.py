"""What is on record of one access: bounded, and never silently less than there was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.access import encode
from proxy.audit.tiles import LONGEST
from proxy.gateway.record import Access
from proxy.gateway.view import Block
from proxy.keys import Keyring
from proxy.plan import Deny, Line
from proxy.reasons import Reason
from proxy.subject import Subject

WIDEST = "\U0001f600"
KEYRING = Keyring.generate()


def access(**more: object) -> Access:
    return Access(address="192.0.2.1", method="GET", keyring=KEYRING, **more)  # type: ignore[arg-type]


def test_the_longest_record_of_all_still_fits():
    """512 groups, 5,000 lines, 1,024 fields in several forms, all parameters: an entry of the log."""
    asked = access(
        subject=Subject(
            user="user:" + WIDEST * 256,
            tool="tool:" + WIDEST * 256,
            groups=tuple(f"group:{WIDEST * 250}{n}" for n in range(512)),
            expires=0,
        ),
        parameters={f"p{n}": '"' * 1024 for n in range(8)},
        purpose="p" * 64,
        policy="f" * 64,
        path="/" + "a" * 9000,
    )
    forms = {f"constant('{WIDEST * 60}{n}')": 10**12 for n in range(3)}
    block = Block(
        data=b"",
        rows=10**12,
        bytes=10**15,
        cells={f"{WIDEST * 250}{n}": forms for n in range(1024)},
        last=True,
        digest="f" * 64,
    )
    lines = tuple(Line(file="policy.csv", line=10**6 + n) for n in range(5000))
    event = asked.event(
        "complete", deny=Deny(reason=Reason.INTERNAL, cause="x", lines=lines), block=block
    )
    assert len(encode(event)) <= LONGEST
    assert event.lines[-1] == "+4616" and event.groups[-1].startswith("+")
    assert sum(sum(counts.values()) for counts in event.fields.values()) == 1024 * 3 * 10**12


@given(st.integers(0, 1200), st.integers(1, 255))
def test_no_cell_is_left_out_of_the_count(count, width):
    """However many fields are counted together, the cells of each form are as many as before."""
    cells = {f"{n:04}{'x' * width}": {"clear": n, "redact": 1} for n in range(count)}
    block = Block(data=b"", rows=1, bytes=1, cells=cells, last=True)
    recorded = access().event("complete", block=block).fields
    for form in ("clear", "redact"):
        assert sum(c.get(form, 0) for c in recorded.values()) == sum(
            c[form] for c in cells.values()
        )
