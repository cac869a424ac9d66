"""Field masks: ``sheets(properties,data.rowData.values.note)``, ``*``.

A mask is a tree of dictionaries; an empty one stands for everything below it.
"""

from __future__ import annotations

import re
from typing import Any

from sheets_standin.errors import invalid

Mask = dict[str, Any]

_TOKEN = re.compile(r"[A-Za-z_]\w*|[*,()./]|\s+|.")


def parse(text: str) -> Mask:
    """Read a mask; an empty one is returned for ``*``.

    Raises:
        ApiError: 400, it is not a mask.
    """
    tokens = [token for token in _TOKEN.findall(text) if not token.isspace()]
    mask, rest = _parse_list(tokens, text)
    if rest:
        raise invalid(f"Invalid field selection {text}")
    return mask


def _parse_list(tokens: list[str], text: str) -> tuple[Mask, list[str]]:
    mask: Mask = {}
    everything = False
    while True:
        path: list[str] = []
        while True:
            if not tokens or not (tokens[0] == "*" or tokens[0].isidentifier()):
                raise invalid(f"Invalid field selection {text}")
            path.append(tokens[0])
            tokens = tokens[1:]
            if tokens[:1] not in (["."], ["/"]):
                break
            tokens = tokens[1:]
        below: Mask = {}
        if tokens[:1] == ["("]:
            below, tokens = _parse_list(tokens[1:], text)
            if tokens[:1] != [")"]:
                raise invalid(f"Invalid field selection {text}")
            tokens = tokens[1:]
        if path[-1] == "*":
            path.pop()
        everything = everything or not path
        for name in reversed(path):
            below = {name: below}
        _merge(mask, below)
        if tokens[:1] != [","]:
            return ({} if everything else mask), tokens
        tokens = tokens[1:]


def _merge(mask: Mask, other: Mask) -> None:
    for name, below in other.items():
        if name not in mask:
            mask[name] = below
        elif mask[name] and below:
            _merge(mask[name], below)
        else:
            mask[name] = {}


def project(value: Any, mask: Mask) -> Any:
    """The parts of a JSON value that the mask names; of a list, those of each item."""
    if not mask:
        return value
    if isinstance(value, list):
        return [project(item, mask) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: project(value[name], below) for name, below in mask.items() if name in value}


def patch(target: dict[str, Any], source: dict[str, Any], mask: Mask) -> dict[str, Any]:
    """A copy of the target with the source's values of the fields that the mask names.

    A field that the source does not have is removed.
    """
    patched = dict(target)
    for name, below in mask.items():
        new = source.get(name)
        if below:
            if not isinstance(new or {}, dict):
                raise invalid(f"Invalid field: '{name}' has no fields below it")
            new = patch(patched.get(name) or {}, new or {}, below)
        if new is None or new == {}:
            patched.pop(name, None)
        else:
            patched[name] = new
    return patched
