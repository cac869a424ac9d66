"""Where the dbt project is, its manifest, and the warehouse that its profile names.

Nobody configures a warehouse twice: the target that ``dbt build`` writes to is the one that
ingestion loads into.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingestion.errors import ProjectError

log = logging.getLogger(__name__)

_PARSED_SUFFIXES = {".yml", ".yaml", ".sql", ".md", ".csv", ".py"}
_GENERATED = {"target", "logs", "dbt_packages"}


@dataclass(frozen=True)
class Project:
    """A dbt project and the folder of its ``profiles.yml``."""

    folder: Path
    profiles_folder: Path

    @classmethod
    def find(cls, start: Path | None = None) -> Project:
        """The project at or above ``start`` (the working directory, unless told).

        ``DBT_PROJECT_DIR`` and ``DBT_PROFILES_DIR`` come first, as in dbt itself.

        Raises:
            ProjectError: there is none.
        """
        here = (start or Path.cwd()).resolve()
        named = os.environ.get("DBT_PROJECT_DIR")
        candidates = (
            [Path(named).resolve()]
            if named
            else [folder / "dbt_project" for folder in (here, *here.parents)]
        )
        for folder in candidates:
            if (folder / "dbt_project.yml").is_file():
                profiles = os.environ.get("DBT_PROFILES_DIR")
                return cls(folder, Path(profiles).resolve() if profiles else folder.parent)
        raise ProjectError(
            f"There is no dbt_project/dbt_project.yml in {here} or above it."
            if not named
            else f"There is no dbt_project.yml in {candidates[0]} (DBT_PROJECT_DIR).",
            fix="Run millrace inside the project, or set DBT_PROJECT_DIR.",
        )

    @property
    def root(self) -> Path:
        """The folder that relative paths in ``profiles.yml`` start from."""
        return self.folder.parent

    @property
    def manifest_path(self) -> Path:
        """Where dbt writes the manifest."""
        target = os.environ.get("DBT_TARGET_PATH")
        return (self.folder / target if target else self.folder / "target") / "manifest.json"

    def is_stale(self) -> bool:
        """Whether a file of the project is newer than its manifest, or there is no manifest."""
        if not self.manifest_path.is_file():
            return True
        parsed_at = self.manifest_path.stat().st_mtime
        return any(file.stat().st_mtime > parsed_at for file in self._inputs())

    def ensure_manifest(self) -> None:
        """Let dbt parse the project where its manifest is missing or stale.

        Raises:
            ProjectError: dbt cannot parse it; the message is dbt's own.
        """
        if self.is_stale():
            log.info("parsing the dbt project: its manifest is missing or stale")
            self.parse()

    def parse(self) -> None:
        """Run ``dbt parse``.

        Raises:
            ProjectError: dbt cannot parse the project; the message is dbt's own.
        """
        # A process of its own: dbt keeps global state, and its import costs seconds.
        done = subprocess.run(
            [
                *(sys.executable, "-m", "dbt.cli.main"),
                *("--quiet", "--no-use-colors", "--log-level-file", "none", "parse"),
                *("--project-dir", str(self.folder), "--profiles-dir", str(self.profiles_folder)),
            ],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = done.stdout.strip() or done.stderr.strip() or f"exit code {done.returncode}"
            raise ProjectError(
                f"dbt cannot parse {self.folder}:\n{said}",
                fix="Correct what dbt names, then try again (`dbt parse` shows the same).",
            )
        # dbt leaves the file alone when nothing changed but a time stamp.
        self.manifest_path.touch()

    def credentials(self) -> Any:
        """The credentials of the profile's target, as dbt's adapter holds them.

        The target is ``profiles.yml``'s own choice (there, the TARGET variable).

        Returns:
            The adapter's ``Credentials`` dataclass; its ``type`` is ``duckdb``, ``redshift``, …

        Raises:
            ProjectError: ``profiles.yml`` cannot be rendered.
        """
        from argparse import Namespace

        from dbt.config.runtime import load_profile
        from dbt.flags import set_from_args
        from dbt_common.context import set_invocation_context
        from dbt_common.exceptions import DbtBaseException

        # dbt reads both from global state, which its command line would have set.
        set_from_args(Namespace(PROFILES_DIR=str(self.profiles_folder)), None)
        set_invocation_context(os.environ)
        try:
            credentials = load_profile(str(self.folder), {}).credentials
        except DbtBaseException as error:
            raise ProjectError(
                f"{self.profiles_folder / 'profiles.yml'} cannot be used: {error}",
                fix="Set the variables that the target needs (`dbt debug` checks the same).",
            ) from error
        if credentials.type == "duckdb" and ":" not in credentials.path:
            # dbt runs in the project's root; millrace may be called from a folder below.
            # (":memory:" and "md:…" are no files.)
            credentials.path = str(self.root / credentials.path)
        return credentials

    def _inputs(self) -> Iterator[Path]:
        yield self.profiles_folder / "profiles.yml"
        for folder, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if name not in _GENERATED]
            for name in files:
                if Path(name).suffix in _PARSED_SUFFIXES:
                    yield Path(folder, name)
