"""A measured figure and its bar."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of output; `bar` None: it is shown beside the others and judged by nobody."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    better: Literal["more", "less"] = "more"

    @property
    def ok(self) -> bool:
        """Whether the bar is reached."""
        if self.bar is None:
            return True
        return self.value >= self.bar if self.better == "more" else self.value <= self.bar

    def __str__(self) -> str:
        bar = "-" if self.bar is None else f"{'≥' if self.better == 'more' else '≤'}{self.bar:g}"
        return f"{self.name} {self.value:.4g} {self.unit} {bar} {'ok' if self.ok else 'short'}"


def interleaved(works: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, list[float]]:
    """Each work once in each round, in turn, so that the machine's moods fall on all alike."""
    measured: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            measured[name].append(work())
    return measured


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over the rounds of ours / theirs."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
