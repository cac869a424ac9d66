"""A staging model as SQL, in the style of dbt's guide: ``source``, then ``renamed``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from millrace.scaffold import names
from millrace.scaffold.proposal import Group, Proposal, StagingColumn, quoted

_LOADED = "cast(_loaded_at as {{ dbt.type_timestamp() }}) as _loaded_at"
_INDENT = " " * 8
_LOADED_LINE = re.compile(r"^.*\b_loaded_at\s*(,.*)?$")


def sql_of(proposal: Proposal) -> str:
    """The whole model."""
    return "\n".join(
        [
            "with",
            "",
            "source as (",
            "",
            f"    select * from {{{{ source('{proposal.source}', '{proposal.table}') }}}}",
            "",
            "),",
            "",
            "renamed as (",
            "",
            "    select",
            *_selected(proposal.columns),
            "",
            "    from source",
            "",
            ")",
            "",
            "select * from renamed",
            "",
        ]
    )


def with_columns(sql: str, columns: Sequence[StagingColumn]) -> str | None:
    """A model to which columns came; None: it is not written so that they have a place.

    They stand before ``_loaded_at``, which is last in what Millrace writes. No other line changes.
    """
    lines = sql.split("\n")
    places = [
        at
        for at, line in enumerate(lines)
        if _LOADED_LINE.match(line) and not line.lstrip().startswith("--")
    ]
    if len(places) != 1:
        return None
    (at,) = places
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    lines[at:at] = [f"{indent}{_line(column)}," for column in columns]
    return "\n".join(lines)


def _selected(columns: Sequence[StagingColumn]) -> Iterator[str]:
    groups = [group for group in Group if group is not Group.TIMESTAMPS] + [Group.TIMESTAMPS]
    for group in groups:
        of_group = [column for column in columns if column.group is group]
        if not of_group and group is not Group.TIMESTAMPS:
            continue
        yield f"{_INDENT}-- {group}"
        for column in of_group:
            yield f"{_INDENT}{_line(column)},"
        if group is not Group.TIMESTAMPS:
            yield ""
    yield f"{_INDENT}{_LOADED}"


def _line(column: StagingColumn) -> str:
    if column.expression == column.name:
        return column.expression
    alias = column.name if names.is_plain(column.name) else quoted(column.name)
    return f"{column.expression} as {alias}"
