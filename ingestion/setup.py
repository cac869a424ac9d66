"""How the one module that is not Python is built; all else is said in pyproject.toml."""

import os
import shlex
import subprocess

from Cython.Build import cythonize
from setuptools import Extension, setup

# mysqlclient's own order and variables: both have to be built with the same library.
_PACKAGES = ("mysqlclient", "mariadb", "libmariadb", "perconaserverclient")


def _client_library(variable: str, option: str) -> list[str]:
    """The compiler's options for the MySQL client library that this machine has."""
    if variable in os.environ:
        return shlex.split(os.environ[variable])
    for package in _PACKAGES:
        found = subprocess.run(
            ["pkg-config", option, package], capture_output=True, text=True, check=False
        )
        if found.returncode == 0:
            return shlex.split(found.stdout)
    raise SystemExit(
        "There is no MySQL client library to build with.\n"
        "  → On Debian: apt-get install libmariadb-dev pkg-config gcc."
    )


setup(
    ext_modules=cythonize(
        Extension(
            "millrace.sources.mysql.result",
            ["millrace/sources/mysql/result.pyx"],
            extra_compile_args=_client_library("MYSQLCLIENT_CFLAGS", "--cflags"),
            extra_link_args=_client_library("MYSQLCLIENT_LDFLAGS", "--libs"),
        ),
        build_dir="build",
    )
)
