"""Of a world in which something fails, the smallest one that still does, line by line and row by row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from tests.reference.conditions import TRUE
from tests.reference.nouns import World


def smallest(world: World, fails: Callable[[World], bool]) -> World:
    """A world that still fails, from which nothing can be taken away so that it does."""
    while True:
        for smaller in _smaller(world):
            if fails(smaller):
                world = smaller
                break
        else:
            return world


def _smaller(world: World) -> Iterator[World]:
    for n in range(len(world.rows)):
        yield dataclasses.replace(world, rows=world.rows[:n] + world.rows[n + 1 :])
    for part in ("cells", "access", "members", "sets"):
        lines = getattr(world.rules, part)
        for n in range(len(lines)):
            rules = dataclasses.replace(world.rules, **{part: lines[:n] + lines[n + 1 :]})
            yield dataclasses.replace(world, rules=rules)
    for n in range(1, len(world.reports)):
        yield dataclasses.replace(world, reports=world.reports[:n] + world.reports[n + 1 :])
    for n, line in enumerate(world.rules.cells):
        for rows in (
            TRUE,
            *(part for part in line.rows.parts if line.rows.of in ("and", "or", "not")),
        ):
            if rows != line.rows:
                lines = [*world.rules.cells]
                lines[n] = dataclasses.replace(line, rows=rows)
                yield dataclasses.replace(
                    world, rules=dataclasses.replace(world.rules, cells=tuple(lines))
                )
