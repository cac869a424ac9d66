"""Adds entries to YAML that a person has written, as text: no other line of it changes.

A parser that writes YAML anew would lose its line breaks and spaces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import yaml

from millrace.errors import ProjectError

Way = Sequence[tuple[str, str] | str]
_PLAIN = re.compile(r"[^\W\d][\w./ ()%+-]*")
# Outside of brackets; a colon and a number sign mean something only beside a blank.
_PLAIN_LINE = re.compile(r"[^\W\d](?:[\w./()%+\-,;'\"’“”–?!=<>·]|:(?! |$)| (?!#))*")
_LOOKS_LIKE_A_VALUE = re.compile(r"(?i)(true|false|yes|no|on|off|null|y|n|~)")


def scalar(text: str) -> str:
    """A text as YAML writes it, in one line."""
    is_plain = _PLAIN.fullmatch(text) and not _LOOKS_LIKE_A_VALUE.fullmatch(text)
    return text if is_plain and text == text.strip() else json.dumps(text, ensure_ascii=False)


def line(text: str) -> str:
    """A text that is all of a line's value: more of them need no quotation marks."""
    is_plain = _PLAIN_LINE.fullmatch(text) and not _LOOKS_LIKE_A_VALUE.fullmatch(text)
    return text if is_plain and text == text.strip() else scalar(text)


def flow(texts: Iterable[str]) -> str:
    """A list of texts, in one line."""
    return f"[{', '.join(map(scalar, texts))}]"


def indented(lines: Iterable[str], by: int) -> list[str]:
    """Lines further to the right."""
    return [f"{' ' * by}{line}" if line else line for line in lines]


class YamlText:
    """The text of a YAML file.

    Args:
        text: The text.
        path: The file, for messages.
    """

    def __init__(self, text: str, path: Path) -> None:
        self.text = text
        self._path = path

    def append(self, place: Way, *entries: Sequence[str], apart: bool = False) -> None:
        """Add entries at the end of a list.

        Args:
            place: The way to the list: keys, and ``(key, value)`` of an entry of a list. A key that
                is missing at the end of the way is made.
            entries: The lines of each new entry, the first of them after its dash.
            apart: Whether a blank line comes before each.

        Raises:
            ProjectError: the way does not lead to a list in block style.
        """
        root = yaml.compose(self.text, Loader=yaml.SafeLoader)
        if root is None:
            raise self._odd(place)
        node: yaml.Node = root
        for at, step in enumerate(place):
            found = _step(node, step)
            if found is None:
                if at != len(place) - 1 or not isinstance(step, str):
                    raise self._odd(place)
                self._insert(_end(node, self.text), self._new_list(node, step, entries))
                return
            node = found
        if not isinstance(node, yaml.SequenceNode) or node.flow_style or not node.value:
            raise self._odd(place)
        dash = self._dash_of(node)
        space = [""] if apart else []
        lines = [line for entry in entries for line in (*space, *_dashed(entry))]
        self._insert(_end(node, self.text), indented(lines, dash))

    def _new_list(self, node: yaml.Node, key: str, entries: Sequence[Sequence[str]]) -> list[str]:
        if not isinstance(node, yaml.MappingNode) or node.flow_style:
            raise self._odd([key])
        column = node.start_mark.column
        lines = [line for entry in entries for line in _dashed(entry)]
        return indented([f"{key}:", *indented(lines, 2)], column)

    def _dash_of(self, node: yaml.SequenceNode) -> int:
        line = self.text.split("\n")[node.start_mark.line]
        return len(line) - len(line.lstrip())

    def _insert(self, line: int, lines: Sequence[str]) -> None:
        before = self.text.split("\n")
        self.text = "\n".join([*before[:line], *lines, *before[line:]])

    def _odd(self, place: Way) -> ProjectError:
        way = ".".join(step if isinstance(step, str) else step[1] for step in place)
        return ProjectError(
            f"{self._path}: {way} is no list with a line for each entry, so nothing can be added.",
            fix="Write it as `- name: …` lines, or move the file away and scaffold again.",
        )


def _dashed(entry: Sequence[str]) -> list[str]:
    return [f"- {entry[0]}", *indented(entry[1:], 2)]


def _step(node: yaml.Node, step: tuple[str, str] | str) -> yaml.Node | None:
    if isinstance(step, str):
        return _value(node, step)
    key, wanted = step
    if not isinstance(node, yaml.SequenceNode):
        return None
    for item in node.value:
        value = _value(item, key)
        if isinstance(value, yaml.ScalarNode) and value.value == wanted:
            return cast("yaml.Node", item)
    return None


def _value(node: yaml.Node, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _end(node: yaml.Node, text: str) -> int:
    """The line after the last one of a node that is not blank.

    The parser's own end of a block lies behind the comments and blank lines that follow it.
    """
    last = _last_line(node)
    lines = text.split("\n")
    while last > node.start_mark.line and not lines[last].strip():
        last -= 1
    return last + 1


def _last_line(node: yaml.Node) -> int:
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return max(_last_line(part) for pair in node.value for part in pair)
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return max(map(_last_line, node.value))
    is_block = isinstance(node, yaml.ScalarNode) and node.style in ("|", ">")
    return int(node.end_mark.line) - (1 if is_block else 0)
