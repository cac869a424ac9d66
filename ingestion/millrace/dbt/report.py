"""Reports what dbt does while it runs, as lines of JSON that an Airflow task reads.

Three kinds of line, each an object with one key:

    {"said": {"level": "info", "text": "1 of 5 OK created …"}}     a line of dbt's log
    {"node": {"id": "test.…", "status": "fail", "details": […]}}   a model, test, … that has ended
    {"end": {"ok": false, "error": null, "may_pass": false}}       the last line

If there is no ``end``, dbt was killed. ``details`` says, for a person, what went wrong and where:
dbt's message, the file, up to five of a failing test's rows, the SQL that was run.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

ROWS = 5
"""How many rows of a failing test are shown."""

_COLUMNS = 8
_COLUMN_WIDTH = 60
_SQL_LINES = 60
_SHOWN_LEVELS = {"info", "warn", "error"}
# dbt's statuses for a node without a failure; a test that only warns is one.
_WELL = {"success", "pass", "warn", "no-op"}


def is_well(status: str) -> bool:
    """Whether dbt considers a node with this status done, so that others may build on it."""
    return status in _WELL


def report(arguments: Sequence[str]) -> int:
    """Run dbt and write the lines to standard output.

    Args:
        arguments: What follows ``dbt`` on its command line.

    Returns:
        dbt's own exit code: 0 when all went well, 1 when a node failed, 2 when dbt could not run.
    """
    from dbt.cli.main import dbtRunner

    _end_with_the_reader()
    reporter = Reporter(sys.stdout)
    quiet = ["--log-level", "none", "--log-level-file", "none", "--no-use-colors"]
    outcome = dbtRunner(callbacks=[reporter]).invoke([*quiet, *arguments])
    error = outcome.exception
    reporter.write(
        "end",
        ok=outcome.success,
        error=str(error).strip() or repr(error) if error is not None else None,
        may_pass=_is_outage(error),
    )
    return 0 if outcome.success else 2 if error is not None else 1


class Reporter:
    """A callback for dbt's events that writes the lines.

    Args:
        out: Where to write them.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._manifest: dict[str, Any] | None = None

    def __call__(self, event: Any) -> None:
        """Take an event of dbt; its worker threads call this too."""
        if event.info.name == "NodeFinished":
            self._node_finished(event.data)
        elif event.info.level in _SHOWN_LEVELS and event.info.msg.strip():
            self.write("said", level=event.info.level, text=event.info.msg)

    def write(self, kind: str, **values: Any) -> None:
        """Write a line."""
        with self._lock:
            print(json.dumps({kind: values}), file=self._out, flush=True)

    def _node_finished(self, data: Any) -> None:
        node_id, status = data.node_info.unique_id, data.run_result.status
        told = not is_well(status) or status == "warn"
        try:
            details = list(self._details(data)) if told and status != "skipped" else []
        except Exception as error:  # dbt would take it for a failure of the node
            details = [*data.run_result.message.splitlines(), f"(No more is known: {error})"]
        self.write("node", id=node_id, status=status, details=details)

    def _details(self, data: Any) -> Iterator[str]:
        node = self._node(data.node_info.unique_id)
        name = f"{data.node_info.resource_type} {data.node_info.node_name}"
        said = data.run_result.message.strip() or f"status {data.run_result.status}"
        yield from f"{name}: {said}".splitlines()
        yield f"Declared in {node['original_file_path']}"
        sql = self._compiled_sql(node)
        if not sql:
            return
        if data.node_info.resource_type == "test" and data.run_result.status in ("fail", "warn"):
            yield f"Up to {ROWS} of the rows that it found:"
            try:
                yield from _indented(_rows(sql))
            except Exception as error:  # dbt would take it for a failure of its own
                yield from _indented(["They cannot be read:", *str(error).splitlines()])
        yield "The SQL that was run:"
        lines = [line for line in sql.splitlines() if line.strip()]
        yield from _indented(lines[:_SQL_LINES])
        if len(lines) > _SQL_LINES:
            yield f"    … and {len(lines) - _SQL_LINES} lines more"

    def _node(self, node_id: str) -> dict[str, Any]:
        if self._manifest is None:
            # dbt writes the manifest before it runs the first node.
            self._manifest = json.loads((_target_path() / "manifest.json").read_text())
        found: dict[str, Any] = self._manifest["nodes"][node_id]
        return found

    def _compiled_sql(self, node: dict[str, Any]) -> str:
        """The SQL that dbt sent to the warehouse, from the file in which dbt keeps it."""
        file = Path(node["original_file_path"])
        if file.name != Path(node["path"]).name:
            # One file declares many nodes, such as the tests of a YAML file.
            file /= node["path"]
        compiled = _target_path() / "compiled" / node["package_name"] / file
        return compiled.read_text().strip() if compiled.is_file() else ""


def _target_path() -> Path:
    from dbt.flags import get_flags

    flags = get_flags()  # type: ignore[no-untyped-call]
    return Path(flags.PROJECT_DIR, flags.TARGET_PATH or "target")


def _rows(sql: str) -> list[str]:
    """The first rows that a test's SQL finds, as a table.

    The query runs in dbt's own process, because DuckDB lets no other one in.
    """
    from dbt.adapters.factory import FACTORY

    # Any: the adapters' protocol lacks connection_named and limit, which all adapters have.
    adapter: Any
    (adapter,) = FACTORY.adapters.values()
    with adapter.connection_named("millrace_failing_rows"):
        _, table = adapter.execute(sql, fetch=True, limit=ROWS)
    names = list(table.column_names)[:_COLUMNS]
    cells = [names, *([_cell(row[name]) for name in names] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [" | ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    return [lines[0], "-+-".join("-" * width for width in widths), *lines[1:]]


def _cell(value: object) -> str:
    text = "null" if value is None else " ".join(str(value).split())
    return text if len(text) <= _COLUMN_WIDTH else f"{text[: _COLUMN_WIDTH - 1]}…"


def _indented(lines: Sequence[str]) -> Iterator[str]:
    return (f"    {line}" for line in lines)


def _is_outage(error: BaseException | None) -> bool:
    """Whether dbt could not begin because its warehouse was away, or held by another process."""
    from dbt.adapters.exceptions.connection import FailedToConnectError

    return isinstance(error, FailedToConnectError) or "Could not set lock on file" in str(error)


def _end_with_the_reader() -> None:
    """End this process when the one that started it is gone, for whatever reason.

    A task that is killed cannot end its dbt, which would go on without the task's slot in the pool.
    """

    def wait() -> None:
        # Unbuffered: a thread that holds a buffer's lock would break this process's own end.
        while os.read(sys.stdin.fileno(), 1024):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
