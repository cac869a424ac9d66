"""Where the dbt project is, its manifest, and the warehouse that its profile names.

Nobody configures a warehouse twice: the target that ``dbt build`` writes to is the one that
ingestion loads into. It is chosen as dbt chooses it: by dbt's options and variables, or else by
``profiles.yml`` itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from millrace.errors import ProjectError

log = logging.getLogger(__name__)

_PARSED_SUFFIXES = {".yml", ".yaml", ".sql", ".md", ".py"}
# Of a seed the manifest holds that it is there, and the file may be large.
_LISTED_SUFFIXES = {".csv"}
_GENERATED = {"target", "logs", "dbt_packages"}
_FINGERPRINT = "millrace_parsed.json"
_VARIABLE = re.compile(rb"""\benv_var\(\s*(?:["'](\w+)["']\s*[,)])?""")


@dataclass(frozen=True)
class Project:
    """A dbt project, the folder of its ``profiles.yml``, and what is chosen there.

    Attributes:
        folder: Where ``dbt_project.yml`` is.
        profiles_folder: Where ``profiles.yml`` is.
        target: The profile's target; without one, the profile's own choice.
        profile: The profile; without one, that of ``dbt_project.yml``.
    """

    folder: Path
    profiles_folder: Path
    target: str | None = None
    profile: str | None = None

    @classmethod
    def find(
        cls,
        start: Path | None = None,
        *,
        project_dir: str | None = None,
        profiles_dir: str | None = None,
        target: str | None = None,
    ) -> Project:
        """The project at or above ``start`` (the working directory, unless told).

        As in dbt itself an option comes before its variable (``DBT_PROJECT_DIR``,
        ``DBT_PROFILES_DIR``, ``DBT_TARGET``, ``DBT_PROFILE``). Without either, ``profiles.yml`` is
        looked for at ``start``, beside the project, in it, and in ``~/.dbt``.

        Args:
            start: Where to look.
            project_dir: dbt's ``--project-dir``.
            profiles_dir: dbt's ``--profiles-dir``.
            target: dbt's ``--target``.

        Raises:
            ProjectError: there is none.
        """
        here = (start or Path.cwd()).resolve()
        named = project_dir or _dbt_variable("PROJECT_DIR")
        candidates = (
            [Path(named).resolve()]
            if named
            else [folder / "dbt_project" for folder in (here, *here.parents)]
        )
        for folder in candidates:
            if (folder / "dbt_project.yml").is_file():
                return cls(
                    folder,
                    _profiles_folder(profiles_dir or _dbt_variable("PROFILES_DIR"), here, folder),
                    target or _dbt_variable("TARGET"),
                    _dbt_variable("PROFILE"),
                )
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
        target = _dbt_variable("TARGET_PATH")
        return (self.folder / target if target else self.folder / "target") / "manifest.json"

    def is_stale(self) -> bool:
        """Whether dbt would make another manifest of the project now, or there is none.

        Told by what the last ``parse`` kept: what the project's files say, the values of the
        variables that they name, and the declarations of the manifest, which a dbt that was started
        for another target has overwritten.
        """
        try:
            known = json.loads(self._fingerprint_path.read_text())
        except (OSError, ValueError):
            return True
        return bool(known != self._fingerprint(self._inputs_digest()))

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
        # What is changed while dbt reads is read again the next time.
        read = self._inputs_digest()
        # A process of its own: dbt keeps global state, and its import costs seconds.
        done = subprocess.run(
            [
                *(sys.executable, "-m", "dbt.cli.main"),
                *("--quiet", "--no-use-colors", "--log-level-file", "none", "parse"),
                *("--project-dir", str(self.folder), "--profiles-dir", str(self.profiles_folder)),
                *(("--target", self.target) if self.target else ()),
            ],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = done.stdout.strip() or done.stderr.strip() or f"exit code {done.returncode}"
            raise ProjectError(
                f"dbt cannot parse {self.folder} with {self.profiles_folder / 'profiles.yml'}:"
                f"\n{said}",
                fix="Correct what dbt names, then try again (`dbt parse` shows the same).",
            )
        self._fingerprint_path.write_text(json.dumps(self._fingerprint(read)))

    def credentials(self) -> Any:
        """The credentials of the profile's target, as dbt's adapter holds them.

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
            credentials = load_profile(str(self.folder), {}, self.profile, self.target).credentials
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

    @property
    def _fingerprint_path(self) -> Path:
        return self.manifest_path.with_name(_FINGERPRINT)

    def _fingerprint(self, inputs: str) -> dict[str, str | None]:
        return {"inputs": inputs, "declarations": _declarations_digest(self.manifest_path)}

    def _inputs_digest(self) -> str:
        """Of all that dbt makes a manifest from.

        Values of variables, some of which are secret, are in no file but as a part of this.
        """
        digest = hashlib.sha256()
        names: set[str] = set()
        names_are_literal = True
        for path in sorted(self._inputs()):
            content = path.read_bytes() if path.suffix in _PARSED_SUFFIXES else b""
            digest.update(f"{os.path.relpath(path, self.root)}\0{len(content)}\0".encode())
            digest.update(content)
            for found in _VARIABLE.findall(content):
                names_are_literal &= bool(found)
                names.add(found.decode())
        environment = {
            name: value
            for name, value in sorted(os.environ.items())
            if name in names or name.startswith("DBT_") or not names_are_literal
        }
        choices = [version("dbt-core"), self.target, self.profile, environment]
        digest.update(json.dumps(choices).encode())
        return digest.hexdigest()

    def _inputs(self) -> Iterator[Path]:
        yield self.profiles_folder / "profiles.yml"
        for folder, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if name not in _GENERATED]
            for name in files:
                path = Path(folder, name)
                is_read = path.suffix in _PARSED_SUFFIXES | _LISTED_SUFFIXES
                if is_read and path.parent != self.manifest_path.parent:
                    yield path


def _dbt_variable(name: str) -> str | None:
    """The value of dbt's own variable, by its new name or by its old one."""
    return os.environ.get(f"DBT_ENGINE_{name}") or os.environ.get(f"DBT_{name}") or None


def _profiles_folder(named: str | None, here: Path, project: Path) -> Path:
    if named:
        return Path(named).resolve()
    candidates = [here, project.parent, project, Path.home() / ".dbt"]
    return next(
        (folder for folder in candidates if (folder / "profiles.yml").is_file()), project.parent
    )


def _declarations_digest(manifest_path: Path) -> str | None:
    """Of what Millrace reads of a manifest; None where there is none.

    dbt writes the file anew at every start, with other times and the SQL that it compiled.
    """
    try:
        manifest = json.loads(manifest_path.read_text())
        declared = [
            *manifest["sources"].values(),
            *manifest["exposures"].values(),
            *(
                {key: node.get(key) for key in ("unique_id", "database", "schema", "alias")}
                for node in manifest["nodes"].values()
            ),
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    told = [{**node, "created_at": None} for node in declared]
    told.sort(key=lambda node: str(node["unique_id"]))
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
