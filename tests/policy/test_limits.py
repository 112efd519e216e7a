"""limits.yaml: the same limited twice is a fault, wherever it is written."""

from __future__ import annotations

import pytest

from proxy.errors import Faulty
from proxy.policy.limits import Limits, read_limits
from tests.policy.example import CLASSES, REPORTS, load

ROWS = "{who: anyone, reports: sales/*, what: rows, most: %d, per: day}"


def read(text: str) -> Limits:
    return read_limits(
        {"limits.yaml": text.encode()},
        policy=load("p, anyone, sales/*, read, true, allow\n"),
        reports=REPORTS,
        classes=CLASSES,
    )


@pytest.mark.parametrize("written", ["[%s, %s]", "[%s,\n %s]", "\n- %s\n- %s"])
@pytest.mark.parametrize("most", [5, 7])
def test_the_same_is_limited_once(written, most):
    """Entries on one line or on two, with the same `most` or another: one fault, at the second of them."""
    with pytest.raises(Faulty) as caught:
        read("limits: " + written % (ROWS % 5, ROWS % most))
    (fault,) = caught.value.faults
    first = 2 if written.startswith("\n") else 1
    assert f"the same is limited in line {first} already" in str(fault)
    assert fault.line == first + written.lstrip().count("\n")


def test_each_further_one_names_the_first():
    with pytest.raises(Faulty) as caught:
        read("limits:\n- " + "\n- ".join(ROWS % most for most in (5, 5, 7)))
    assert [("line 2" in str(fault), fault.line) for fault in caught.value.faults] == [
        (True, 3),
        (True, 4),
    ]


def test_what_differs_in_one_thing_is_not_the_same():
    """Another principal, report, count or window on the same line is a limit of its own."""
    others = [
        ROWS % 5,
        (ROWS % 5).replace("anyone", "user:a"),
        (ROWS % 5).replace("sales/*", "sales/daily"),
        (ROWS % 5).replace("rows", "bytes"),
        (ROWS % 5).replace("day", "week"),
    ]
    assert len(read(f"limits: [{', '.join(others)}]").all) == 5
