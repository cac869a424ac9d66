"""The files that a scaffold is to write."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from millrace.dbt.project import Project
from millrace.scaffold.yaml_text import YamlText, indented


@dataclass(frozen=True)
class Change:
    """A file that is to be written.

    Attributes:
        path: Where.
        before: What it holds now; None: it is new.
        after: What it is to hold.
    """

    path: Path
    before: str | None
    after: str

    def diff(self, root: Path) -> str:
        """The change as a unified diff."""
        name = str(self.path.relative_to(root))
        lines = difflib.unified_diff(
            [] if self.before is None else self.before.splitlines(keepends=True),
            self.after.splitlines(keepends=True),
            "/dev/null" if self.before is None else f"a/{name}",
            f"b/{name}",
        )
        return "".join(lines)


@dataclass
class Files:
    """The files as they are to be."""

    before: dict[Path, str | None] = field(default_factory=dict)
    after: dict[Path, str] = field(default_factory=dict)

    def read(self, path: Path) -> str | None:
        """The text of a file as it is to be; None: there is none."""
        if path not in self.before:
            self.before[path] = path.read_text() if path.exists() else None
        return self.after.get(path, self.before[path])

    def write(self, path: Path, text: str) -> None:
        """Let a file hold a text."""
        self.read(path)
        self.after[path] = text

    def add(self, path: Path, key: str, *entries: Sequence[str]) -> None:
        """Let a YAML file have entries at the end of the list under a key of its own.

        Raises:
            ProjectError: what is under the key is no such list.
        """
        text = self.read(path)
        if text is None:
            lines = [
                line for first, *rest in entries for line in (f"- {first}", *indented(rest, 2), "")
            ]
            self.write(path, "\n".join([f"{key}:", *indented(lines, 2)]))
            return
        yaml = YamlText(text, path)
        yaml.append([key], *entries, apart=True)
        self.write(path, yaml.text)

    def changes(self) -> Iterator[Change]:
        """The files that are to change, by path."""
        for path, text in sorted(self.after.items()):
            if text != self.before[path]:
                yield Change(path, self.before[path], text)


def write(changes: Sequence[Change], project: Project) -> None:
    """Write files, and let dbt parse them; all are as before if it refuses.

    Raises:
        ProjectError: dbt refuses them.
    """
    try:
        for change in changes:
            change.path.parent.mkdir(parents=True, exist_ok=True)
            change.path.write_text(change.after)
        project.parse()
    except BaseException:
        for change in changes:
            if change.before is None:
                change.path.unlink(missing_ok=True)
            else:
                change.path.write_text(change.before)
        raise
