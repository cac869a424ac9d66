"""What the page shows, as a template writes it: pure functions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from millrace.airflow.page.looking import Seen
from millrace.alerts.messages import in_words
from millrace.status import Line, PublicationFacts, State, TableFacts

TRANSFORM = "transform"
_BAR, _HEIGHT = 4, 24
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Links:
    """Where the page's links go.

    Attributes:
        airflow: The path that Airflow is below; empty: the root.
        docs: The address of the dbt docs; empty: there are none.
    """

    airflow: str = ""
    docs: str = ""

    def dag(self, dag_id: str) -> str:
        """A DAG's page."""
        return f"{self.airflow}/dags/{quote(dag_id, safe='')}"

    def node(self, kind: str, *names: str) -> str:
        """A node's page in the dbt docs; empty: there are none."""
        node = ".".join((kind, *names))
        return self.docs and f"{self.docs}#!/{kind}/{quote(node, safe='')}"


@dataclass(frozen=True)
class Bar:
    """A day of a sparkline: where its bar is, and what it stands for."""

    x: int
    y: int
    height: int
    said: str


def readable(seen: Seen, dag_ids: Collection[str]) -> Seen:
    """What somebody may see who may read these DAGs.

    Args:
        seen: What was seen.
        dag_ids: Ids of DAGs.
    """
    tables = tuple(line for line in seen.tables if dag_of(line) in dag_ids)
    publications = seen.publications if TRANSFORM in dag_ids else ()
    return Seen(seen.at, seen.project, tables, publications, seen.problem)


def dag_of(line: Line) -> str:
    """The id of the DAG that loads a table."""
    if isinstance(line.facts, TableFacts):
        return line.facts.dag_id
    source, _, name = line.what.partition(".")
    return f"ingest__{source}__{name}"


def page(seen: Seen, links: Links, now: datetime) -> str:
    """The page, as HTML.

    Args:
        seen: What was seen.
        links: Where its links go.
        now: The time, in UTC.
    """
    ill = [line for line in (*seen.tables, *seen.publications) if line.state is State.ILL]

    def first_ill(lines: Sequence[Line]) -> list[Line]:
        return sorted(lines, key=lambda line: line.state is not State.ILL)

    def table_docs(line: Line) -> str:
        return links.node("source", seen.project, *line.what.split(".", 1))

    return _TEMPLATES.get_template("page.html").render(
        seen=seen,
        ill=len(ill),
        tables=[
            (line, line.facts if isinstance(line.facts, TableFacts) else None)
            for line in first_ill(seen.tables)
        ],
        publications=[
            (line, line.facts if isinstance(line.facts, PublicationFacts) else None)
            for line in first_ill(seen.publications)
        ],
        dag_of=lambda line: links.dag(dag_of(line)),
        transform=links.dag(TRANSFORM),
        table_docs=table_docs,
        exposure_docs=lambda line: links.node("exposure", seen.project, line.what),
        bars=lambda facts: bars(facts.rows_by_day),
        width=_BAR * 30,
        height=_HEIGHT,
        time=lambda moment: f"{moment:%Y-%m-%d %H:%M}",
        ago=lambda moment: _ago(moment, now),
        is_past=lambda moment: moment < now,
    )


def bars(rows_by_day: Sequence[tuple[date, int]]) -> list[Bar]:
    """A sparkline: a bar for each day, the highest as high as there is room."""
    most = max((rows for _, rows in rows_by_day), default=0) or 1
    found = []
    for at, (day, rows) in enumerate(rows_by_day):
        # Few rows are more than none.
        height = max(round(rows / most * _HEIGHT), 1 if rows else 0)
        found.append(Bar(at * _BAR, _HEIGHT - height, height, f"{day}: {rows:,} rows"))
    return found


def _ago(moment: datetime, now: datetime) -> str:
    return f"{in_words(now - moment)} ago" if moment <= now else f"in {in_words(moment - now)}"
