"""Fills the template in."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, asdict, dataclass, fields
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

import copier
import yaml

from millrace.errors import TemplateError

ANSWERS_FILE = ".millrace.yml"

_TEMPLATE = Path(__file__).parent
_TITLE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_APART = re.compile(r"[^a-z0-9]+")
# The folders of a checkout with the distributions that a project depends on.
_OF_A_CHECKOUT = ("ingestion", "sandbox", "standins/redshift", "standins/google-sheets")


@dataclass(frozen=True)
class Answers:
    """What a project's files are filled in with.

    Attributes:
        name: The name of the dbt project and of its profile.
        title: What the project is called, also as a package and a container image.
        owner: The e-mail address of who is told when something is late or wrong.
        warehouse: The warehouse of production; on a laptop it is DuckDB.
        version: The version of Millrace.
        checkout: The folder of a checkout of Millrace to install it from; empty: from PyPI.
    """

    name: str
    title: str
    owner: str
    warehouse: str
    version: str
    checkout: str = ""

    @classmethod
    def of(cls, title: str, warehouse: str, owner: str, checkout: Path | None = None) -> Answers:
        """The answers for a project of this name.

        Raises:
            TemplateError: it cannot be called so.
        """
        if not _TITLE.fullmatch(title):
            raise TemplateError(
                f"A project cannot be called {title!r}.",
                fix="Use letters, digits, - and _ only, as for a Python package.",
            )
        name = _APART.sub("_", title.lower()).strip("_")
        return cls(
            name=f"_{name}" if name[0].isdigit() else name,
            title=title.lower(),
            owner=owner,
            warehouse=warehouse,
            version=distribution("millrace").version,
            checkout=str(checkout or ""),
        )

    @classmethod
    def read(cls, folder: Path) -> Answers:
        """What the project in a folder was filled in with, for this version of the template.

        Raises:
            TemplateError: the folder has no such project.
        """
        file = folder / ANSWERS_FILE
        try:
            answers = yaml.safe_load(file.read_text())
            # A later template may ask more than an earlier one.
            known = [of for of in fields(cls) if of.name in answers or of.default is MISSING]
            kept = {of.name: str(answers[of.name]) for of in known}
        except FileNotFoundError:
            raise TemplateError(
                f"There is no {ANSWERS_FILE} in {folder}: the project was not made by "
                "`millrace init`.",
                fix="Start `millrace update` in the folder of a project that was.",
            ) from None
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise TemplateError(
                f"{file} cannot be read: {error}",
                fix=f"Bring it back as it was: git checkout HEAD -- {ANSWERS_FILE}",
            ) from None
        return cls(**{**kept, "version": distribution("millrace").version})


def render(answers: Answers, folder: Path) -> None:
    """Write the template's files into a folder, over those that are there."""
    copier.run_copy(
        str(_TEMPLATE),
        folder,
        data=asdict(answers),
        defaults=True,
        overwrite=True,
        quiet=True,
        unsafe=False,
    )


def own_checkout() -> Path | None:
    """The checkout from which this Millrace was installed; None: it is from PyPI, or the like."""
    installed = distribution("millrace").read_text("direct_url.json")
    url = urlsplit(json.loads(installed)["url"]) if installed else None
    if url is None or url.scheme != "file":
        return None
    root = Path(unquote(url.path)).parent
    return root if all((root / part).is_dir() for part in _OF_A_CHECKOUT) else None
