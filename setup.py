"""Compiles proxy/kernels; everything else about the package is in pyproject.toml.

The compiler is Zig's of C, which comes as a wheel: so that a machine with nothing but Python makes the same
machine code as any other.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

_OLDEST = {"x86_64": "x86_64_v2", "AMD64": "x86_64_v2"}
"""The oldest processors that it runs on, where that is not what the compiler takes for granted."""
_FLAGS = ("-O3", "-std=c11", "-fPIC", "-fvisibility=default", "-Wall", "-Wextra", "-Werror")


class BuildKernels(build_ext):
    """`build_ext` with the pinned compiler."""

    def build_extensions(self) -> None:
        """Compile and link, for every machine of this kind."""
        cache = str(Path(self.build_temp, "zig").absolute())
        os.environ.update(ZIG_GLOBAL_CACHE_DIR=cache, ZIG_LOCAL_CACHE_DIR=cache)
        processor = _OLDEST.get(platform.machine(), "baseline")
        compiler = [sys.executable, "-m", "ziglang", "cc", f"-mcpu={processor}"]
        self.compiler.set_executables(
            compiler_so=[*compiler, *_FLAGS], linker_so=[*compiler, "-shared", "-s"]
        )
        super().build_extensions()


_FOLDER = Path("proxy/kernels")
_SOURCES, _HEADERS = (sorted(map(str, _FOLDER.glob(kind))) for kind in ("*.c", "*.h"))

setup(
    ext_modules=[Extension("proxy.kernels._kernels", _SOURCES, depends=_HEADERS)],
    cmdclass={"build_ext": BuildKernels},
)
