"""The project at hand, and where its parts are."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from millrace_sandbox.processes import SandboxError

DBT_FILE = "dbt_project.yml"
PROFILES_FILE = "profiles.yml"
NPS = "nps"
"""What the sample of Millrace's own repository is called."""


@dataclass(frozen=True)
class Project:
    """The folders of a project; one that is not given is looked for when it is needed.

    Attributes:
        root: The project's own folder, where its ``.env`` is.
        given_dbt: The folder of ``dbt_project.yml``.
        given_profiles: The folder of ``profiles.yml``.
        given_dags: The folder of the DAG files.
    """

    root: Path
    given_dbt: Path | None = None
    given_profiles: Path | None = None
    given_dags: Path | None = None

    @property
    def dbt(self) -> Path:
        """The folder of the dbt project: the root, or one folder in it.

        Raises:
            SandboxError: There is none, or there are several.
        """
        if self.given_dbt:
            return self.given_dbt.resolve()
        found = _dbt_projects(self.root)
        choose = "its folder: --project-dir, or DBT_PROJECT_DIR"
        if not found:
            raise SandboxError(
                f"There is no dbt project in {self.root} or in one of its folders. Name {choose}"
            )
        if len(found) > 1:
            names = ", ".join(folder.name for folder in found)
            raise SandboxError(f"{self.root} has several dbt projects: {names}. Name {choose}")
        return found[0]

    @property
    def profiles(self) -> Path | None:
        """The folder of ``profiles.yml``: the root, or dbt's; None leaves the search to dbt."""
        places = (self.root, self.dbt)
        found = (place for place in places if (place / PROFILES_FILE).exists())
        return self.given_profiles or next(found, None)

    @property
    def dags(self) -> Path:
        """The folder of the DAG files: ``dags`` in the root or dbt's folder. It may not exist."""
        places = (self.root, *_dbt_projects(self.root))
        found = (place / "dags" for place in places if (place / "dags").is_dir())
        return self.given_dags or next(found, self.root / "dags")

    @property
    def sample(self) -> str | None:
        """What the sandbox's sources hold to begin with, as ``pyproject.toml`` says.

        A file of SQL in the project for its MySQL, or ``NPS``.

        Raises:
            SandboxError: ``pyproject.toml`` cannot be read, or names a file that is not there.
        """
        file = self.root / "pyproject.toml"
        try:
            declared = tomllib.loads(file.read_text()) if file.exists() else {}
        except tomllib.TOMLDecodeError as error:
            raise SandboxError(f"{file} cannot be read: {error}") from None
        sample = declared.get("tool", {}).get("millrace-sandbox", {}).get("sample")
        if sample not in (None, NPS) and not (self.root / str(sample)).is_file():
            raise SandboxError(
                f"There is no file {sample} in {self.root}: {file.name} has it as the sample of "
                "tool.millrace-sandbox."
            )
        return None if sample is None else str(sample)


def find_root() -> Path | None:
    """The root of the project around the working directory; None where there is none.

    In a repository (``.git``, or ``pyproject.toml``) it is the outermost folder that has a dbt
    project in it or in one of its folders, so it is the same from everywhere in the project. If
    there is none, it is the repository's folder. Outside of a repository it is the nearest dbt
    project around the working directory, or one in a folder of it: a neighbour's, such as
    ``~/shop`` for somebody in ``~/notes``, is not this one's.
    """
    folders = [Path.cwd(), *Path.cwd().parents]
    for mark in (".git", "pyproject.toml"):
        for depth, folder in enumerate(folders):
            if (folder / mark).exists():
                inside = [place for place in folders[: depth + 1] if _dbt_projects(place)]
                return inside[-1] if inside else folder
    if _dbt_projects(folders[0]):
        return folders[0]
    return next((folder for folder in folders[1:] if (folder / DBT_FILE).exists()), None)


def project_root() -> Path:
    """The root of the project around the working directory.

    Raises:
        SandboxError: There is none.
    """
    root = find_root()
    if root is None:
        raise SandboxError(
            f"There is no project in {Path.cwd()} and above: no {DBT_FILE}, .git or "
            "pyproject.toml. Run millrace-sandbox inside the project, or set MILLRACE_SANDBOX_DIR."
        )
    return root


def _dbt_projects(folder: Path) -> list[Path]:
    if (folder / DBT_FILE).exists():
        return [folder]
    return sorted(file.parent for file in folder.glob(f"*/{DBT_FILE}"))
