"""Which of the libraries that setup.py makes of the same source this machine can run."""

from __future__ import annotations

from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

_ANY: Final = "_kernels"
_WIDE: Final = "_kernels_avx512"
"""For processors that look at 64 bytes at once."""
_NEEDED: Final = frozenset({
    "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vbmi2", "pclmulqdq", "avx2", "bmi1",
    "bmi2", "fma", "f16c", "movbe", "abm",
})  # fmt: skip
"""What these have, in Linux's words: all that the compiler may make use of."""


def libraries() -> list[str]:
    """Where they are, the fastest first; raises ImportError where there is none."""
    names = [_WIDE, _ANY] if _features() >= _NEEDED else [_ANY]
    specs = [PathFinder.find_spec(name, [str(Path(__file__).parent)]) for name in names]
    found = [spec.origin for spec in specs if spec is not None and spec.origin is not None]
    if not found:
        raise ImportError(
            "proxy/kernels is not compiled: install the package, as `make setup` does"
        )
    return found


def _features() -> frozenset[str]:
    """What the machine's processors have, as far as is known."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    return frozenset()
