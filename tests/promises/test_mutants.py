"""A test of the tests: with one fault in any stage, a check of PROMISE 1 or 2 fails.

That the same checks hold without a fault is test_no_cell_without_a_grant.py.
"""

from __future__ import annotations

import pytest

from tests.promises import grants
from tests.promises.grants import raised
from tests.promises.mutants import MUTANTS, every_column_decoded


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_seeded_fault_makes_a_promise_test_fail(mutant, tmp_path):
    """The check that is named for the fault fails, and says what the fault has done."""
    with (
        mutant.broken(),
        raised(tmp_path / "home") as at,
        pytest.raises(AssertionError, match=mutant.because),
    ):
        mutant.check(at)


def test_a_decoder_that_hands_on_too_much_changes_nothing(tmp_path):
    """Default absent: columns that the plan does not name go no further than the decoder."""
    with every_column_decoded(), raised(tmp_path / "home") as at:
        grants.nested_and_stray_canaries_stay_hidden(at)
        grants.canaries_stay_hidden(at)
