"""How the modules that are not Python are built; all else is said in pyproject.toml."""

import os
import shlex
import subprocess

from Cython.Build import cythonize
from setuptools import Extension, setup

_VARIABLES = {"--cflags": "MARIADB_CFLAGS", "--libs": "MARIADB_LDFLAGS"}


def _client_library(option: str) -> list[str]:
    """The compiler's options for MariaDB's C client library."""
    if value := os.environ.get(_VARIABLES[option]):
        return shlex.split(value)
    found = subprocess.run(
        ["pkg-config", option, "libmariadb"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise SystemExit(
            "MariaDB's C client library, which reads MySQL too, is not there to build with.\n"
            "  → On Debian: apt-get install libmariadb-dev pkg-config gcc.\n"
            "  → On macOS: brew install mariadb-connector-c pkg-config.\n"
            f"  → Elsewhere, set {' and '.join(_VARIABLES.values())}."
        )
    return shlex.split(found.stdout)


setup(
    ext_modules=cythonize(
        [
            Extension(
                f"millrace.sources.mysql.{name}",
                [f"millrace/sources/mysql/{name}.pyx"],
                extra_compile_args=_client_library("--cflags"),
                extra_link_args=_client_library("--libs"),
            )
            for name in ("client", "result")
        ],
        build_dir="build",
    )
)
