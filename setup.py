"""Builds the Cython machines in ``ext/`` into the package ``jindopy._ext``.

Everything else (metadata, tools, dependencies) is in pyproject.toml.  Three flavours, chosen by environment:

    release (default)   -O3, no bounds checks
    JINDOPY_DEBUG=1     -O1 -g, bounds checks, live-object counters that the tests assert to be zero
    JINDOPY_ASAN=1      debug plus AddressSanitizer

``JINDOPY_EXT=a,b`` builds only the named modules (quick rebuilds while working on one of them).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = bool(os.environ.get("JINDOPY_DEBUG") or os.environ.get("JINDOPY_ASAN"))
ASAN = bool(os.environ.get("JINDOPY_ASAN"))

# One table of flags.  -fno-strict-aliasing: Cython's own generated code relies on it.
CFLAGS = {
    "release": ["-O3", "-fno-strict-aliasing", "-Wall", "-Wno-unused-function"],
    "debug": ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-strict-aliasing", "-Wall", "-Wno-unused-function"],
}["debug" if DEBUG else "release"]
LDFLAGS: list[str] = []
if ASAN:
    CFLAGS += ["-fsanitize=address"]
    LDFLAGS += ["-fsanitize=address"]

DIRECTIVES = {
    "language_level": 3,
    "binding": True,
    "embedsignature": False,  # the .pyi files carry the signatures
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "freethreading_compatible": False,
}

# System libraries a module is linked with.
LIBRARIES: dict[str, list[str]] = {
    "httpcrew": ["curl"],
    "httpget": ["curl"],
}

# Left out, with a word, where libcurl is missing: everything else works, GETs from OSS go through Python then.
NEED_LIBCURL = {"httphead", "httpcrew", "httpblocks", "httpget"}
LIBCURL = "libcurl >= 7.87"

# Extra C sources a module is linked with.
SOURCES: dict[str, list[str]] = {
    "crc64": ["ext/crc64_kernels.c"],
}


def has_libcurl() -> bool:
    """Whether the native client of OSS can be built."""
    try:
        subprocess.run(["pkg-config", "--exists", LIBCURL], check=True)  # noqa: S603, S607  # found as compilers are
    except (OSError, subprocess.CalledProcessError):
        print(f"without the native OSS client: no {LIBCURL} (Debian: libcurl4-openssl-dev)", file=sys.stderr)  # noqa: T201
        return False
    return True


def forget_stale(source: Path) -> None:
    """Have C code made anew that is older than any declaration.

    Cython does not see that a module depends on its own .pxd when that lies in another folder; two modules that
    disagree on a struct's layout corrupt memory.
    """
    made = source.with_suffix(".c")
    newest = max(path.stat().st_mtime for path in Path("jindopy/_ext").glob("*.pxd"))
    if made.exists() and made.stat().st_mtime < newest:
        made.unlink()


def extensions() -> list[Extension]:
    """One extension per ``ext/*.pyx``; its ``.pxd`` and ``.pyi`` live in ``jindopy/_ext``."""
    wanted = {name for name in os.environ.get("JINDOPY_EXT", "").split(",") if name}
    found = []
    libcurl = has_libcurl()
    for path in sorted(Path("ext").glob("*.pyx")):
        if wanted and path.stem not in wanted:
            continue
        if path.stem in NEED_LIBCURL and not libcurl:
            continue
        forget_stale(path)
        found.append(
            Extension(
                f"jindopy._ext.{path.stem}",
                [str(path), *SOURCES.get(path.stem, [])],
                include_dirs=["ext"],
                depends=sorted(str(p) for p in [*Path("jindopy/_ext").glob("*.pxd"), *Path("ext").glob("*.h")]),
                libraries=LIBRARIES.get(path.stem, []),
                extra_compile_args=CFLAGS,
                extra_link_args=LDFLAGS,
                define_macros=[("JINDOPY_DEBUG", "1")] if DEBUG else [],
            )
        )
    return found


setup(
    ext_modules=cythonize(
        extensions(),
        include_path=["."],
        compiler_directives=DIRECTIVES,
        compile_time_env=None,
    )
)
