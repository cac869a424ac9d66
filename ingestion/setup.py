"""How the modules that are not Python are built; all else is said in pyproject.toml."""

import os
import shlex
import subprocess
from dataclasses import dataclass

from Cython.Build import cythonize
from setuptools import Extension, setup


@dataclass(frozen=True)
class Library:
    """A C library that modules are built with.

    Attributes:
        name: As pkg-config knows it.
        title: As people know it.
        debian: Its package.
        homebrew: Its package.
        prefix: Of the variables that stand in for pkg-config.
    """

    name: str
    title: str
    debian: str
    homebrew: str
    prefix: str

    @property
    def variables(self) -> dict[str, str]:
        """By an option of pkg-config, the variable that says the same."""
        return {"--cflags": f"{self.prefix}_CFLAGS", "--libs": f"{self.prefix}_LDFLAGS"}

    def options(self, option: str) -> list[str]:
        """The compiler's options: with ``--cflags`` to compile, with ``--libs`` to link."""
        if value := os.environ.get(self.variables[option]):
            return shlex.split(value)
        found = subprocess.run(
            ["pkg-config", option, self.name], capture_output=True, text=True, check=False
        )
        if found.returncode:
            raise SystemExit(
                f"{self.title} is not there to build with.\n"
                f"  → On Debian: apt-get install {self.debian} pkg-config gcc.\n"
                f"  → On macOS: brew install {self.homebrew} pkg-config.\n"
                f"  → Elsewhere, set {' and '.join(self.variables.values())}."
            )
        return shlex.split(found.stdout)


MARIADB = Library(
    "libmariadb",
    "MariaDB's C client library, which reads MySQL too,",
    debian="libmariadb-dev",
    homebrew="mariadb-connector-c",
    prefix="MARIADB",
)
OPENSSL = Library(
    "libcrypto",
    "OpenSSL's library, which hashes,",
    debian="libssl-dev",
    homebrew="openssl",
    prefix="OPENSSL",
)


def _module(name: str, library: Library | None = None, **macros: str) -> Extension:
    return Extension(
        name,
        [f"{name.replace('.', '/')}.pyx"],
        define_macros=list(macros.items()),
        extra_compile_args=library.options("--cflags") if library else [],
        extra_link_args=library.options("--libs") if library else [],
    )


setup(
    ext_modules=cythonize(
        [
            _module("millrace.checksums.totals", OPENSSL, OPENSSL_API_COMPAT="10101"),
            # SHA-256's own functions are of version 1.1.1's interface; newer ones still have it.
            _module("millrace.pii.hashing", OPENSSL, OPENSSL_API_COMPAT="10101"),
            _module("millrace.sources.mysql.client", MARIADB),
            _module("millrace.sources.mysql.result", MARIADB),
        ],
        build_dir="build",
    )
)
