"""Compiles proxy/kernels; everything else about the package is in pyproject.toml.

The compiler is Zig's of C, which comes as a wheel: so that a machine with nothing but Python makes the same
machine code as any other. For x86-64 it makes two libraries of the same source, of which proxy/kernels loads
the one that its processor can run.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

_X86 = {"_kernels": "x86_64_v2", "_kernels_avx512": "x86_64_v4+avx512vbmi2+pclmul"}
"""The oldest processors that a library runs on."""
_PROCESSORS = _X86 if platform.machine() in ("x86_64", "AMD64") else {"_kernels": "baseline"}
_FLAGS = ("-O3", "-std=c11", "-fPIC", "-fvisibility=default", "-Wall", "-Wextra", "-Werror")


class BuildKernels(build_ext):
    """`build_ext` with the pinned compiler."""

    def build_extension(self, ext: Extension) -> None:
        """Compile and link, for every machine of this kind that can run the library."""
        cache = str(Path(self.build_temp, "zig").absolute())
        os.environ.update(ZIG_GLOBAL_CACHE_DIR=cache, ZIG_LOCAL_CACHE_DIR=cache)
        library = ext.name.rpartition(".")[2]
        compiler = [sys.executable, "-m", "ziglang", "cc", f"-mcpu={_PROCESSORS[library]}"]
        self.compiler.set_executables(
            compiler_so=[*compiler, *_FLAGS], linker_so=[*compiler, "-shared", "-s"]
        )
        super().build_extension(ext)


_FOLDER = Path("proxy/kernels")
_SOURCES, _HEADERS = (sorted(map(str, _FOLDER.glob(kind))) for kind in ("*.c", "*.h"))

setup(
    ext_modules=[
        Extension(f"proxy.kernels.{library}", _SOURCES, depends=_HEADERS) for library in _PROCESSORS
    ],
    cmdclass={"build_ext": BuildKernels},
)
