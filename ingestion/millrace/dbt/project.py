"""Where the dbt project is, its manifest, and the warehouse that its profile names.

Nobody configures a warehouse twice: the target that ``dbt build`` writes to is the one that
ingestion loads into. It is chosen as dbt chooses it: by dbt's options and variables, or else by
``profiles.yml`` itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from millrace.errors import ProjectError
from millrace.settings import DbtSettings

log = logging.getLogger(__name__)

_PARSED_SUFFIXES = {".yml", ".yaml", ".sql", ".md", ".py"}
# The manifest holds only that a seed is there, and the seed's file may be large.
_LISTED_SUFFIXES = {".csv"}
_GENERATED = {"target", "logs", "dbt_packages"}
_FINGERPRINT = "millrace_parsed.json"
_LOCK = ".millrace.lock"
_PARTIAL_PARSE = "partial_parse.msgpack"
_PROJECT_FILE = "dbt_project.yml"
_PROFILES_FILE = "profiles.yml"
# What the root of a project has that keeps its dbt project in a folder of its own.
_ROOT_MARKS = (_PROFILES_FILE, "pyproject.toml", ".git")
_SECRET_PREFIX = "DBT_ENV_SECRET"  # noqa: S105 of the names of variables
# They say where things are, which changes no manifest: it may be made in one place for another.
_PLACES = {
    f"{prefix}_{name}"
    for prefix in ("DBT", "DBT_ENGINE")
    for name in ("LOG_PATH", "PROFILES_DIR", "PROJECT_DIR", "TARGET_PATH")
}
_VARIABLE = re.compile(rb"""\benv_var\(\s*(?:["'](\w+)["']\s*[,)])?""")


@dataclass(frozen=True)
class Project:
    """A dbt project, the folder of its ``profiles.yml``, and what is chosen there.

    Attributes:
        folder: Where ``dbt_project.yml`` is.
        profiles_folder: Where ``profiles.yml`` is.
        target: The profile's target; default: the profile's own choice.
        profile: The profile; default: that of ``dbt_project.yml``.
        target_path: The folder for what dbt writes; default: that of ``dbt_project.yml``.
    """

    folder: Path
    profiles_folder: Path
    target: str | None = None
    profile: str | None = None
    target_path: str | None = None

    @classmethod
    def find(
        cls,
        start: Path | None = None,
        dbt: DbtSettings | None = None,
        *,
        project_dir: str | Path | None = None,
        profiles_dir: str | Path | None = None,
        target: str | None = None,
    ) -> Project:
        """Find the project wherever ``dbt`` finds it, and also from beside or below the project.

        As in dbt itself, an option overrides its variable. Without either, the project is the
        nearest one at or above ``start``, or in a subfolder of ``start`` or of a folder above it
        that has a ``profiles.yml``, a ``pyproject.toml`` or a ``.git``. ``profiles.yml`` is looked
        for at ``start``, beside the project, in it, and in ``~/.dbt``.

        Args:
            start: Where to look; default: the working directory.
            dbt: dbt's own variables; default: none is set.
            project_dir: dbt's ``--project-dir``.
            profiles_dir: dbt's ``--profiles-dir``.
            target: dbt's ``--target``.

        Raises:
            ProjectError: there is none, or several, or no ``profiles.yml``.
        """
        here, dbt = (start or Path.cwd()).resolve(), dbt or DbtSettings()
        named = project_dir or dbt.project_dir
        folder = _named_project(Path(named).resolve()) if named else _project_around(here)
        profiles = profiles_dir or dbt.profiles_dir
        return cls(
            folder,
            Path(profiles).resolve() if profiles else _profiles_folder(here, folder),
            target or dbt.target,
            dbt.profile,
            dbt.target_path,
        )

    @property
    def root(self) -> Path:
        """The folder that dbt is started in, where relative paths in ``profiles.yml`` begin.

        It is the folder of a ``profiles.yml`` that belongs to the project, else the project's own.
        """
        is_own = self.profiles_folder in (self.folder, self.folder.parent)
        return self.profiles_folder if is_own else self.folder

    @property
    def manifest_path(self) -> Path:
        """Where dbt writes the manifest."""
        return self.folder / (self.target_path or self._declared_target_path) / "manifest.json"

    @property
    def profile_name(self) -> str:
        """The profile that dbt uses."""
        return self.profile or self._declared("profile") or "default"

    def dbt_options(self) -> list[str]:
        """The options that make a dbt command use this project and this target."""
        chosen = {
            "--project-dir": str(self.folder),
            "--profiles-dir": str(self.profiles_folder),
            "--target": self.target,
            "--profile": self.profile,
            "--target-path": self.target_path,
        }
        return [word for option, value in chosen.items() if value for word in (option, value)]

    def is_stale(self) -> bool:
        """Whether the manifest is missing, or dbt would make a different one now.

        Compares with the fingerprint that the last ``parse`` kept: the contents of the project's
        files, the values of the variables that they name, and the manifest's declarations. A dbt
        that was started for another target may have overwritten these.
        """
        try:
            known = json.loads(self._fingerprint_path.read_text())
        except (OSError, ValueError):
            return True
        return bool(known != self._fingerprint(self.inputs_digest()))

    def ensure_manifest(self) -> None:
        """Let dbt parse the project where its manifest is missing or stale.

        Where ``target_path`` names another folder than the project's own, a fresh manifest in the
        project's own is taken over: an image brings one that way.

        Raises:
            ProjectError: dbt cannot parse it; the message is dbt's own.
        """
        if not self.is_stale():
            return
        with _alone_in(self.manifest_path.parent):
            if self.is_stale() and not self._take_over():
                log.info("parsing the dbt project: its manifest is missing or stale")
                self.parse()

    def parse(self) -> None:
        """Run ``dbt parse``. Who reads the manifest meanwhile finds the old or the new one whole.

        Raises:
            ProjectError: dbt cannot parse the project; the message is dbt's own.
        """
        # Taken first: a file that changes while dbt reads it is parsed again the next time.
        read = self.inputs_digest()
        self._write_into(self.manifest_path.parent, "parse")
        _keep(self._fingerprint_path, self._fingerprint(read))

    @property
    def compiled_path(self) -> Path:
        """The manifest with the SQL of every model, as a full refresh would run it."""
        return self.manifest_path.parent / "full_refresh" / "manifest.json"

    def is_compiled(self) -> bool:
        """Whether ``compiled_path`` has the SQL of the project as it is now."""
        try:
            known = json.loads(self.compiled_path.with_name(_FINGERPRINT).read_text())
        except (OSError, ValueError):
            return False
        return bool(known == {"inputs": self.inputs_digest()})

    def compile(self) -> None:
        """Run ``dbt compile --full-refresh``, which asks the warehouse what is there.

        Raises:
            ProjectError: dbt cannot compile the project; the message is dbt's own.
        """
        read = self.inputs_digest()
        self._write_into(self.compiled_path.parent, "compile", "--full-refresh")
        _keep(self.compiled_path.with_name(_FINGERPRINT), {"inputs": read})

    def _take_over(self) -> bool:
        """Copy the manifest of the project's own target folder, if that is another and fresh."""
        own = replace(self, target_path=None)
        if own.manifest_path == self.manifest_path or own.is_stale():
            return False
        # The fingerprint comes last: it vouches for the others.
        for name in (_PARTIAL_PARSE, self.manifest_path.name, _FINGERPRINT):
            with suppress(FileNotFoundError):
                _put(own.manifest_path.with_name(name), self.manifest_path.with_name(name))
        return True

    def _write_into(self, folder: Path, command: str, *options: str) -> None:
        """Let dbt write a manifest elsewhere, then put its files into ``folder``, each at once.

        dbt itself writes a manifest in place, where another process would read half of it.
        """
        with TemporaryDirectory(prefix=".millrace-", dir=_made(folder)) as written:
            # With what dbt knows from the last time it parses only what has changed.
            with suppress(FileNotFoundError):
                shutil.copy(folder / _PARTIAL_PARSE, written)
            self._dbt(command, *options, *replace(self, target_path=written).dbt_options())
            for file in Path(written).iterdir():
                if file.is_file():
                    file.replace(folder / file.name)

    def _dbt(self, command: str, *options: str) -> None:
        quiet = ("--quiet", "--no-use-colors", "--log-level-file", "none")
        done = _run_dbt([*quiet, command, *options], self.root)
        if done.returncode != 0:
            said = done.stdout.strip() or done.stderr.strip() or f"exit code {done.returncode}"
            raise ProjectError(
                f"dbt cannot {command} {self.folder} with {self.profiles_folder / 'profiles.yml'}:"
                f"\n{said}",
                fix=f"Correct what dbt names, then try again (`dbt {command}` shows the same).",
            )

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
        return credentials

    def known_credentials(self) -> Any | None:
        """What ``keep_credentials`` kept, as attributes; None: nothing, or it no longer holds.

        It spares a command the import of dbt, which takes more than a second.
        """
        try:
            kept = json.loads(self._credentials_path.read_text())
            holds = kept["inputs"] == self.inputs_digest()
            return SimpleNamespace(**kept["credentials"]) if holds else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep_credentials(self, credentials: Any, names: Sequence[str]) -> None:
        """Keep some of the target's credentials for the next command, beside the manifest.

        Args:
            credentials: All of them.
            names: Those to keep, none of them a secret; none: nothing is kept.
        """
        if not names or self._may_hold_a_secret({"target", *names}):
            return
        kept = {name: getattr(credentials, name) for name in ("type", *names)}
        # A folder that cannot be written to: the next command asks dbt again.
        with suppress(OSError):
            self._credentials_path.parent.mkdir(parents=True, exist_ok=True)
            _keep(self._credentials_path, {"inputs": self.inputs_digest(), "credentials": kept})

    def _may_hold_a_secret(self, keys: AbstractSet[str]) -> bool:
        """Whether ``profiles.yml`` takes one of these from a secret variable.

        Nothing may keep the value of such a variable, so nothing can tell that it has changed.
        """
        import yaml

        profiles = yaml.safe_load((self.profiles_folder / _PROFILES_FILE).read_text())
        return any(_SECRET_PREFIX in str(value) for value in _values_of(profiles, keys))

    @property
    def _credentials_path(self) -> Path:
        return self.manifest_path.with_name("millrace_target.json")

    @property
    def _declared_target_path(self) -> str:
        return self._declared("target-path") or "target"

    def _declared(self, key: str) -> str | None:
        """The value of a key in ``dbt_project.yml``, as text."""
        import yaml

        try:
            found = yaml.safe_load((self.folder / "dbt_project.yml").read_text()) or {}
            return str(found[key]) if found.get(key) else None
        except (yaml.YAMLError, AttributeError):
            # dbt itself reports what is wrong with the file.
            return None

    @property
    def _fingerprint_path(self) -> Path:
        return self.manifest_path.with_name(_FINGERPRINT)

    def _fingerprint(self, inputs: str) -> dict[str, str | None]:
        return {"inputs": inputs, "declarations": _declarations_digest(self.manifest_path)}

    def inputs_digest(self) -> str:
        """The digest of everything that dbt makes a manifest from.

        The values of variables are written to no file except in this digest, and those that dbt
        itself holds for secret not even there: they never reach a manifest.
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
            if (name in names or name.startswith("DBT_") or not names_are_literal)
            and not name.startswith(_SECRET_PREFIX)
            and name not in _PLACES - names
        }
        choices = [version("dbt-core"), self.target, self.profile, environment]
        digest.update(json.dumps(choices).encode())
        return digest.hexdigest()

    def _inputs(self) -> Iterator[Path]:
        yield self.profiles_folder / "profiles.yml"
        target = self.manifest_path.parent
        for folder, folders, files in os.walk(self.folder):
            folders[:] = [
                name for name in folders if name not in _GENERATED and Path(folder, name) != target
            ]
            for name in files:
                path = Path(folder, name)
                is_read = path.suffix in _PARSED_SUFFIXES | _LISTED_SUFFIXES
                if is_read and path.parent != target:
                    yield path


def followed(find: Callable[[], Project]) -> Iterator[ProjectError | None]:
    """Keep a manifest fresh while its project changes; each step takes one look, for ever.

    Args:
        find: Finds the project; called at each look, because a link on the way may lead elsewhere.

    Yields:
        Why there is no manifest of the project as it is now; then the one of before stays. None if
        there is, or if dbt cannot parse the project and that was said: it is tried once a change.
    """
    failed: str | None = None
    while True:
        problem, seen = None, None
        try:
            project = find()
            seen = project.inputs_digest()
            if seen != failed:
                project.ensure_manifest()
                failed = None
        except FileNotFoundError:
            # A file went between being listed and being read: the next look sees what came of it.
            pass
        except ProjectError as error:
            problem, failed = error, seen
        yield problem


def _values_of(tree: Any, keys: AbstractSet[str]) -> Iterator[Any]:
    """The values of some keys, wherever they are in what was read from YAML."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from [value] if key in keys else _values_of(value, keys)
    elif isinstance(tree, list):
        for value in tree:
            yield from _values_of(value, keys)


def _run_dbt(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run dbt in a process of its own: it keeps global state, and its import costs seconds."""
    return subprocess.run(
        [sys.executable, "-m", "dbt.cli.main", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let one process at a time go on; the lock ends with its process, however that ends."""
    with (_made(folder) / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _made(folder: Path) -> Path:
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise ProjectError(
            f"The dbt project's manifest is missing or stale, and {folder} cannot be written.",
            fix="Name a folder that can be: DBT_TARGET_PATH; or run `dbt parse` where it can.",
        )
    return folder


def _put(source: Path, place: Path) -> None:
    """Copy a file so that who reads it meanwhile finds the old or the new one whole."""
    new = place.with_name(f".millrace-{place.name}")
    shutil.copy(source, new)
    new.replace(place)


def _keep(path: Path, value: Mapping[str, Any]) -> None:
    # For its owner alone: who knows all the rest could try passwords against a digest.
    path.touch(mode=0o600)
    path.write_text(json.dumps(value))


def _named_project(folder: Path) -> Path:
    if (folder / _PROJECT_FILE).is_file():
        return folder
    raise ProjectError(
        f"There is no {_PROJECT_FILE} in {folder}.",
        fix="Name the dbt project's folder: --project-dir, or DBT_PROJECT_DIR.",
    )


def _project_around(here: Path) -> Path:
    """The nearest project: at or above a folder, or in a subfolder of that or of a root above it.

    A project that lies in any other folder above, such as ``~/shop`` for somebody in ``~/notes``,
    is a neighbour's.
    """
    for folder in (here, *here.parents):
        if (folder / _PROJECT_FILE).is_file():
            return folder
        is_ours = folder == here or any((folder / mark).exists() for mark in _ROOT_MARKS)
        beside = _projects_in(folder) if is_ours else []
        if len(beside) > 1:
            raise ProjectError(
                f"There are {len(beside)} dbt projects in {folder}: "
                f"{', '.join(project.name for project in beside)}.",
                fix="Name one: --project-dir, or DBT_PROJECT_DIR; or go into its folder.",
            )
        if beside:
            return beside[0]
        # Folders above this one are not the user's, or not the repository's.
        if folder == Path.home() or (folder / ".git").exists():
            break
    raise ProjectError(
        f"There is no dbt project in {here} or above it: no {_PROJECT_FILE} was found.",
        fix="Go into the project, or name it: --project-dir, or DBT_PROJECT_DIR.",
    )


def _projects_in(folder: Path) -> list[Path]:
    if folder == folder.parent:
        return []
    return sorted(path.parent for path in folder.glob(f"[!.]*/{_PROJECT_FILE}"))


def _profiles_folder(here: Path, project: Path) -> Path:
    candidates = list(dict.fromkeys([here, project.parent, project, Path.home() / ".dbt"]))
    for folder in candidates:
        if (folder / _PROFILES_FILE).is_file():
            return folder
    raise ProjectError(
        f"There is no {_PROFILES_FILE} in {', '.join(map(str, candidates))}.",
        fix="Write one, or name its folder: --profiles-dir, or DBT_PROFILES_DIR.",
    )


def _declarations_digest(manifest_path: Path) -> str | None:
    """The digest of what Millrace reads in a manifest; None if there is no manifest.

    Not of the whole file: dbt rewrites it at every start, with new times and compiled SQL.
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
