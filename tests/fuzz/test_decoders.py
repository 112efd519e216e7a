"""Whatever a store sends, each decoder reads it or refuses it; `make prove` tells how often that was tried."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import replace

import pytest

from proxy.report import Charset
from tests.formats.documents import batches, cut, encode, outcome
from tests.fuzz.targets import FIELDS, TARGETS, Target, damaged

MANY = int(os.environ.get("COUNTERFOIL_FUZZ", "20000"))
"""Executions for each decoder."""


def fuzzed(target: Target, executions: int, seed: int) -> Counter[str]:
    """How many documents were read, and how many refused for which cause; fails for any other outcome."""
    chance = random.Random(seed)
    seen: Counter[str] = Counter()
    for _ in range(executions):
        document = damaged(target, chance)
        try:
            seen[_told(target, document, chance)] += 1
        except BaseException:
            print(f"{target.name}: {document!r}")
            raise
    return seen


def _told(target: Target, document: bytes, chance: random.Random) -> str:
    of, limits = target.dialect, target.limits
    whole = outcome(of, [document], FIELDS, limits=limits)
    places = [chance.randrange(len(document) + 1) for _ in range(3)]
    parts = outcome(of, cut(document, places), FIELDS, limits=limits)
    # Of several faults, which one is met first depends on how the document comes.
    assert whole == parts or (isinstance(whole, str) and isinstance(parts, str))
    if isinstance(whole, str):
        return whole
    if whole and chance.randrange(8) == 0:
        plain = replace(of, charset=Charset.UTF_8)
        again = encode(plain, batches(of, document, FIELDS), FIELDS)
        assert outcome(plain, [again], FIELDS) == whole
    return "read"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_decoder_takes_each_seed_and_survives_some_damage(target):
    """The seeds are well-formed; of what is made of them some is read, some refused, nothing else happens."""
    for seed in target.seeds:
        assert not isinstance(outcome(target.dialect, [seed], FIELDS), str)
    seen = fuzzed(target, 150, 1)
    assert seen["read"] and len(seen) > 2


@pytest.mark.prove
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_decoder_survives_whatever_a_store_sends(target, capsys):
    """Read or refused with a cause of the table: no other exception, however damaged a document is."""
    began = time.perf_counter()
    seen = fuzzed(target, MANY, 2)
    took = time.perf_counter() - began
    causes = ", ".join(f"{cause} {count}" for cause, count in seen.most_common())
    with capsys.disabled():
        print(
            f"\nfuzz {target.name}: {MANY} executions, 0 exceptions, {took:.0f} s,"
            f" {MANY / took:.0f}/s ({causes})"
        )
