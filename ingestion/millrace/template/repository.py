"""Keeps what the template made apart from what people write, in git's history.

Each filling-in is a commit with the template's files and nothing else, on the one before it. A
later one is merged, so git knows which lines are the template's and which a person's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from millrace.errors import TemplateError
from millrace.template.rendering import Answers, render

# It names the commit's own tree: a commit that was changed afterwards holds a person's lines too.
_TRAILER = "Millrace-Template"
# By these a hook of another repository, for one, says which repository is meant.
_ELSEWHERE = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_WORK_TREE")
_OURS = ("-c", "user.name=Millrace", "-c", "user.email=millrace@localhost.invalid")


def begin(answers: Answers, folder: Path) -> None:
    """Make a project in a new or empty folder, with a repository and its first commit.

    Raises:
        TemplateError: the folder holds something, or git is not installed.
    """
    _refuse_without_git()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TemplateError(
            f"{folder} is there already, and not empty. Nothing was written.",
            fix="Name a folder that is not there yet.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    render(answers, folder)
    _git(folder, "init", "--quiet", "--initial-branch=main")
    _commit(folder, answers, f"Begin with Millrace's template {answers.version}")


def who() -> str:
    """The e-mail address that git knows, or one that is to be replaced."""
    try:
        return _git(Path.cwd(), "config", "user.email")
    except (TemplateError, FileNotFoundError):
        return "data@example.com"


def update(folder: Path) -> tuple[str, ...]:
    """Merge what the template of this version makes into the project in a folder.

    Returns:
        The files in which both have changed the same lines: a person has to resolve them, and the
        merge is not finished.

    Raises:
        TemplateError: the project has changes that are not committed; or there is no commit of the
            template in its history; or the template has not changed.
    """
    _refuse_without_git()
    answers = Answers.read(folder)
    if _git(folder, "status", "--porcelain"):
        raise TemplateError(
            f"{folder} has changes that are not committed. Nothing was changed.",
            fix="Commit them or put them aside (git stash), then try again.",
        )
    made = _made(folder, _base(folder), answers)
    if made is None:
        raise TemplateError(
            f"There is nothing new: the template of Millrace {answers.version} is what the "
            "project was made with.",
            fix="Get a later Millrace first: uv lock --upgrade-package millrace && uv sync",
        )
    message = f"Merge Millrace's template {answers.version}"
    try:
        _git(folder, *_as_somebody(folder), "merge", "--quiet", "--no-ff", "-m", message, made)
    except TemplateError:
        if conflicts := _git(folder, "diff", "--name-only", "--diff-filter=U"):
            return tuple(conflicts.splitlines())
        raise
    return ()


def _base(folder: Path) -> str:
    """The newest commit of the template in the history."""
    found = _git(folder, "log", "-1", f"--grep=^{_TRAILER}: ", "--format=%H")
    said = _git(folder, "show", "--no-patch", "--format=%B", found) if found else ""
    tree = re.search(rf"^{_TRAILER}: ([0-9a-f]+)$", said, re.MULTILINE)
    if not found or not tree or tree[1] != _git(folder, "rev-parse", f"{found}^{{tree}}"):
        raise TemplateError(
            "The history of the project has no commit that holds the template alone"
            + (f": {found[:10]} was changed afterwards." if found else "."),
            fix="Make a project anew beside it (millrace init), and compare the two.",
        )
    return found


def _made(folder: Path, base: str, answers: Answers) -> str | None:
    """The commit of what the template makes now, on the one of before; None: it is the same."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / "template"
        _git(folder, "worktree", "add", "--quiet", "--detach", str(place), base)
        try:
            _git(place, "rm", "--quiet", "-r", "--force", ".")
            render(answers, place)
            return _commit(place, answers, f"Bring in Millrace's template {answers.version}")
        finally:
            _git(folder, "worktree", "remove", "--force", str(place))


def _commit(folder: Path, answers: Answers, title: str) -> str | None:
    _git(folder, "add", "--all", "--force")
    if not _git(folder, "status", "--porcelain"):
        return None
    tree = _git(folder, "write-tree")
    message = f"{title}\n\n{_TRAILER}: {tree}"
    # Hooks are for what people write.
    _git(folder, *_as_somebody(folder), "commit", "--quiet", "--no-verify", "--message", message)
    return _git(folder, "rev-parse", "HEAD")


def _as_somebody(folder: Path) -> tuple[str, ...]:
    """Who commits: the person, or Millrace where git does not know them."""
    try:
        _git(folder, "var", "GIT_COMMITTER_IDENT")
    except TemplateError:
        return _OURS
    return ()


def _refuse_without_git() -> None:
    if shutil.which("git") is None:
        raise TemplateError(
            "git is not installed: `millrace update` merges by it.",
            fix="Install it: apt-get install git",
        )


def _git(folder: Path, *arguments: str) -> str:
    """Run git in a folder: what it prints.

    Raises:
        TemplateError: it fails; carries what it said.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise TemplateError(
            f"git {' '.join(arguments)} fails in {folder}: {(done.stderr or done.stdout).strip()}",
            fix="Look at the repository: git status",
        )
    return done.stdout.strip()
