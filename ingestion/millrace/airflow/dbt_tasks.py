"""The tasks of ``transform``: one runs dbt, the others mirror its results.

Only ``dbt_build`` starts dbt, while it holds the slot of the warehouse's pool. For every other task
it records how that task's nodes ended: the task's *word*. A mirror reports its word and never runs
anything: what dbt refused stays refused, however often a task is retried or cleared.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from millrace.airflow import openlineage
from millrace.airflow.lineage import Lineage
from millrace.airflow.openlineage import Lines, of_nodes
from millrace.airflow.outcomes import explained, fold_wait, interrupt, look_again, refuse, unfold
from millrace.airflow.project import AirflowProject
from millrace.airflow.waiting import WAIT
from millrace.catalog import IngestTable
from millrace.dbt.project import Project
from millrace.dbt.report import is_well

log = logging.getLogger(__name__)

BUILD = "dbt_build"
"""The id of the task that runs dbt."""

_PROGRAM = "millrace-dbt"
_LEVELS = {"info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
# States of dbt_build in which its words are those of its current try.
_SPEAKING = {"running", "success", "failed"}
_AGAIN = f"To build again, clear the task {BUILD} with all tasks downstream of it."
_POLL_SECONDS = 1.0
_RETURN_SECONDS = 5
_FAREWELL_SECONDS = 10


@dataclass
class Word:
    """dbt's result for the nodes that a task stands for.

    Attributes:
        status: ``success``, ``failed``, or ``skipped`` if dbt was not asked to build them.
        said: What a person should know, line by line.
    """

    status: str
    said: list[str]


class DbtBuild(BaseOperator):
    """Runs ``dbt build`` and gives each mirror its word as soon as dbt is done with its nodes.

    If a node fails, this task fails for good. It is retried only if dbt died, or never reached the
    warehouse.

    Args:
        project: The project.
        mirrored: The ids of the nodes that each mirror stands for, by the mirror's task id.
        lineage: Which node reads which.
    """

    def __init__(
        self,
        *,
        project: AirflowProject,
        mirrored: Mapping[str, Sequence[str]],
        lineage: Lineage,
        **kwargs: Any,
    ) -> None:
        super().__init__(outlets=[project.built_asset], **kwargs)
        self.project = project
        self.mirrored = mirrored
        self.lineage = lineage

    def execute(self, context: Any) -> None:
        """Run dbt, to its end."""
        began = datetime.now(UTC)
        words = Words(self.mirrored, partial(self._give, context["ti"], of_nodes(self.project)))
        arguments = ["build", "--exclude-resource-type", "unit_test"]
        missing = self._never_loaded(context["ti"])
        if missing:
            absent = never_made(missing, self.project.catalog.tables, self.lineage)
            arguments += ["--exclude", *(f"source:{key}+" for key in absent)]
            words.leave_out(self._reads(absent))
        refused: list[str] = []
        end: dict[str, Any] | None = None
        with running_dbt(self.project.dbt, arguments) as (process, lines):
            for line in lines:
                if "node" in line:
                    node = line["node"]
                    words.add(node["id"], node["status"], node["details"])
                    _log_node(node)
                    if not is_well(node["status"]) and node["status"] != "skipped":
                        refused.append(node["id"].split(".")[2])
                elif "end" in line:
                    end = line["end"]
                else:
                    _log_said(line["said"])
            code = process.wait()
        _judge(end, code, refused)
        context["outlet_events"][self.project.built_asset].extra = {"began": began.isoformat()}

    def _give(self, ti: Any, lines: Mapping[str, Lines], task_id: str, word: Word) -> None:
        built = [lines[node] for node in self.mirrored[task_id] if node in lines]
        if built:
            ti.xcom_push(key=_lines_key(task_id), value=built[0].to_json())
        # The word comes last: the mirror waits for it.
        ti.xcom_push(key=_key(task_id), value=asdict(word))

    def _never_loaded(self, ti: Any) -> list[IngestTable]:
        """The declared tables that were never loaded; the nodes that read them are left out.

        Tables that Airflow never saw loaded are looked up in the ledger: somebody may have loaded
        them by hand.
        """
        names = ti.xcom_pull(task_ids=WAIT) or ()
        unseen = [table for table in self.project.catalog.tables if table.key in names]
        if not unseen:
            return []
        with explained():
            ledgers = self.project.pipeline().warehouse.ledgers(unseen)
        return [table for table in unseen if not ledgers[table.key]]

    def _reads(self, absent: Mapping[str, IngestTable]) -> dict[str, str]:
        """For each node that reads a source table that is absent, by its id: why it is left out."""
        return {
            node: f"It waits for {table.key}, which was never loaded."
            for key, table in absent.items()
            for node in self.lineage.descendants(self.lineage.source(key))
        }


def never_made(
    missing: Sequence[IngestTable], tables: Iterable[IngestTable], lineage: Lineage
) -> dict[str, IngestTable]:
    """The source tables that no load has made, by key, each with a table that was never loaded.

    Among them are ledgers: a schema gets its ledger with its first load.

    Args:
        missing: The tables that were never loaded.
        tables: All tables.
        lineage: Knows which source tables dbt declares.
    """
    # It brings pyarrow, which would slow every parsing of the DAG files down.
    from millrace.warehouses.base import LEDGER

    absent = {table.key: table for table in missing}
    loaded = {table.schema for table in tables if table.key not in absent}
    for table in missing:
        ledger = f"{table.source}.{LEDGER}"
        if table.schema not in loaded and lineage.has_source(ledger):
            absent[ledger] = table
    return absent


class DbtMirror(BaseOperator):
    """Reports dbt's result for some nodes, as soon as ``dbt_build`` has it.

    It takes no slot of the warehouse's pool, because it never starts dbt, not even on a retry or
    after it was cleared.
    """

    def execute(self, context: Any) -> None:
        """Report the word, or wait for it without a worker."""
        ti = context["ti"]
        # Read the state before the word: if dbt_build is running, the word is from this run of it.
        state = build_state(ti)
        word = ti.xcom_pull(task_ids=BUILD, key=_key(self.task_id))
        if state in _SPEAKING and word is not None:
            _report(Word(word["status"], word["said"]))
            if openlineage.is_on():
                openlineage.built(ti.xcom_pull(task_ids=BUILD, key=_lines_key(self.task_id)))
        elif state in ("success", "failed", "upstream_failed", "skipped"):
            refuse(
                f"dbt ended and reported nothing about {self.task_id}.\n"
                f"  → The log of {BUILD} says why. If that task succeeded, the DAG was made from "
                "an old manifest of the project: run `dbt parse`."
            )
        else:
            self._wait(context, is_stale=word is not None)

    def _wait(self, context: Any, is_stale: bool) -> None:
        from cosmos.operators._watcher.triggerer import WatcherTrigger

        if is_stale:
            # dbt_build was cleared and has not begun: the words of its last run are still there.
            look_again(self, timedelta(seconds=_RETURN_SECONDS))
        fold_wait("Waiting for dbt to reach it")
        ti = context["ti"]
        trigger = WatcherTrigger(
            model_unique_id=self.task_id,
            producer_task_id=BUILD,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            map_index=ti.map_index,
            poke_interval=_POLL_SECONDS,
        )
        self.defer(trigger=trigger, method_name="resume")

    def resume(self, context: Any, event: Any = None) -> None:
        """Go on after the wait."""
        unfold()
        self.execute(context)


class Words:
    """Collects dbt's results for nodes into the words of the tasks that mirror them.

    Args:
        mirrored: The ids of the nodes that each task stands for.
        give: Called with a task and its word when dbt is done with the last of its nodes.
    """

    def __init__(self, mirrored: Mapping[str, Sequence[str]], give: Any) -> None:
        self._give = give
        self._task_of = {node: task for task, nodes in mirrored.items() for node in nodes}
        self._open = {task: set(nodes) for task, nodes in mirrored.items()}
        self._ended: dict[str, list[tuple[str, list[str]]]] = {task: [] for task in mirrored}

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        """Take the nodes that dbt is not asked to build: by the node's id, why."""
        for node_id, reason in reasons.items():
            task = self._task_of.get(node_id)
            if task is not None and self._open[task]:
                self._open[task].clear()
                log.warning("%s is left out. %s", task, reason)
                self._give(task, Word("skipped", [reason]))

    def add(self, node_id: str, status: str, details: list[str]) -> None:
        """Take the result of a node."""
        task = self._task_of.get(node_id)
        if task is None:
            return
        self._ended[task].append((status, details))
        self._open[task].discard(node_id)
        if not self._open[task]:
            self._give(task, _word(self._ended[task]))


def build_state(ti: Any) -> str | None:
    """The state of this run's ``dbt_build``."""
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[BUILD], run_ids=[ti.run_id])
    state = states.get(ti.run_id, {}).get(BUILD)
    return None if state is None else str(state)


def refuse_what_dbt_refused(ti: Any, mirrors: Iterable[str]) -> None:
    """Refuse to publish what this run's dbt did not pass, whatever the states of the tasks are.

    When dbt died and is retried, it may refuse what it had passed before.

    Args:
        ti: The task that publishes.
        mirrors: The tasks that mirror what it publishes, and everything upstream of that.
    """
    for task_id in mirrors:
        word = ti.xcom_pull(task_ids=BUILD, key=_key(task_id))
        if word is None or word["status"] != "success":
            refuse(
                f"dbt has not passed {task_id}: {word['status'] if word else 'nothing is known'}.\n"
                f"  → {_AGAIN}"
            )


@contextmanager
def running_dbt(
    project: Project, arguments: Sequence[str]
) -> Iterator[tuple[subprocess.Popen[str], Iterator[dict[str, Any]]]]:
    """Start dbt, yield its process and its reports (``millrace/dbt/report.py``), and end it.

    It runs in the project's root, like ``dbt`` and ``millrace`` by hand, so that a relative path in
    ``profiles.yml`` is the same file for all of them. It writes into a target folder of its own,
    because Airflow makes the DAGs from the manifest in the project's.
    """
    with tempfile.TemporaryDirectory(prefix="millrace-dbt-") as target:
        # With the state of the last parsing, dbt parses only what changed since.
        with suppress(FileNotFoundError):
            shutil.copy(project.manifest_path.with_name("partial_parse.msgpack"), target)
        process = subprocess.Popen(
            [
                # Beside the interpreter, whatever PATH says.
                *(str(Path(sys.executable).with_name(_PROGRAM)), "report", *arguments),
                *replace(project, target_path=target).dbt_options(),
            ],
            cwd=project.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process, _lines(process)
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """End a dbt that still runs although its task ends; on SIGINT dbt cancels its queries."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_FAREWELL_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _lines(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    for line in process.stdout or ():
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if isinstance(found, dict) and found.keys() <= {"said", "node", "end"}:
            yield found
        elif line.strip():
            # What a macro or a library prints.
            yield {"said": {"level": "info", "text": line.rstrip()}}


def _key(task_id: str) -> str:
    """The XCom key under which Cosmos's trigger looks for the word."""
    return f"{task_id.replace('.', '__')}_status"


def _lines_key(task_id: str) -> str:
    """The XCom key of what OpenLineage is told of a task."""
    return f"{task_id}_lines"


def _word(ended: Sequence[tuple[str, list[str]]]) -> Word:
    failed = [details for status, details in ended if not is_well(status) and status != "skipped"]
    if failed:
        return Word("failed", [line for details in failed for line in details])
    if any(status == "skipped" for status, _ in ended):
        return Word("failed", ["dbt left it out, for something upstream of it failed."])
    return Word("success", [line for _, details in ended for line in details])


def _report(word: Word) -> None:
    if word.status == "failed":
        refuse("\n".join([*word.said, "  → Correct it.", f"    {_AGAIN}"]))
    for line in word.said:
        log.warning("%s", line)
    if word.status == "skipped":
        raise AirflowSkipException
    log.info("dbt is done with it: %s.", word.status)


def _log_said(said: Mapping[str, str]) -> None:
    for text in said["text"].splitlines():
        log.log(_LEVELS[said["level"]], "%s", text)


def _log_node(node: Mapping[str, Any]) -> None:
    level = logging.WARNING if is_well(node["status"]) else logging.ERROR
    for text in node["details"]:
        log.log(level, "%s", text)


def _judge(end: Mapping[str, Any] | None, code: int, refused: Sequence[str]) -> None:
    """Fail the task if dbt did not end well."""
    if end is None:
        interrupt(
            f"dbt did not finish: {_how_it_ended(code)}.\n"
            "  → It is tried again. If that does not help, look for what ends it: the memory of "
            "this machine, a shutdown."
        )
    if end["error"]:
        (interrupt if end["may_pass"] else refuse)(f"dbt could not run.\n{end['error']}")
    if not end["ok"]:
        refuse(
            f"dbt refused {len(refused)}: {', '.join(refused)}.\n"
            "  → Correct the model, the test or the data; the lines above say where.\n"
            f"    {_AGAIN}"
        )


def _how_it_ended(code: int) -> str:
    return f"it was killed by signal {-code}" if code < 0 else f"it exited with code {code}"
