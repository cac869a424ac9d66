"""The demo: a year of history and then a day of changes go through Airflow to a sheet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from millrace_sandbox import sample_data, sample_sheets
from millrace_sandbox.demo import TRANSFORM_DAG, Demo
from millrace_sandbox.environment import users_environment
from millrace_sandbox.stack import WAREHOUSES

if TYPE_CHECKING:
    from millrace_sandbox.stack import Stack

INGEST_DAGS = (
    "ingest__mysql__nps",
    "ingest__mysql__users",
    "ingest__google_sheets__nps_targets",
)
# Forecasts are of today: these have no part in the day that arrives after the history.
WEATHER_DAGS = ("ingest__open_meteo__daily_forecasts", "ingest__open_meteo__forecasts")
LAST_DAYS = 7

DAY = sample_data.HISTORY_END
"""The day that arrives after the history: its edits and deletions reach back into the year."""


class NpsDemo(Demo):
    """One run of the demo, always from the start.

    Args:
        stack: The stack to show it on; what was loaded there before is forgotten.
        responses: Responses in the year of history.
        users: How many users gave them.
        console: Where to show it.
    """

    def __init__(self, stack: Stack, responses: int, users: int, console: Console) -> None:
        super().__init__(stack, console)
        self._responses = responses
        self._users = users
        has_weather = users_environment(stack.project.root).get("WEATHER") == "on"
        self._weather_dags = WEATHER_DAGS if has_weather else ()

    def run(self) -> None:
        """Run it; the stack stays up afterwards.

        Raises:
            SandboxError: something did not work; says what.
        """
        with self._stage(f"Start {self._services}"):
            self._stack.airflow.stop()
            if self._weather_dags:
                self._stack.weather.start()
            else:
                self._stack.weather.forget()
            self._stack.start_services()
            self._stack.reset()
        with self._stage(
            f"Start Airflow; fill MySQL with {self._responses:,} responses by {self._users:,} users"
        ):
            self._prepare()
        client = self._stack.airflow.client()
        dags = (*INGEST_DAGS, *self._weather_dags)
        client.wait_for_dags({*dags, TRANSFORM_DAG})
        name = WAREHOUSES[self._stack.target]
        with self._stage(f"History: sources → S3 → {name} → dbt → sheet, by Airflow's schedule"):
            since = datetime.now(UTC)
            # Nothing else is triggered: the schedule starts the ingest DAGs, their assets the rest.
            for dag_id in (TRANSFORM_DAG, *dags):
                client.unpause(dag_id)
            self._follow(client, since, dags)
        before = self._figures()
        with self._stage(f"A day of changes ({DAY:%Y-%m-%d}), as an increment"):
            sample_data.arrive_day(self._stack.mysql.server, DAY.date())
            since = datetime.now(UTC)
            for dag_id in INGEST_DAGS:
                client.trigger(dag_id, interval=(DAY, DAY + timedelta(days=1)))
            self._follow(client, since, INGEST_DAGS)
        with self._stage("Write the dbt docs"):
            self._stack.write_docs()
        self._show_changes(before, self._figures())
        self._show_targets()
        if self._weather_dags:
            self._show_weather()
        self._show_summary()
        self._show_stages()
        self._show_doors()

    def _fill(self) -> None:
        server = self._stack.mysql.server
        sample_data.create_schema(server)
        sample_data.fill_history(server, responses=self._responses, users=self._users)
        sample_sheets.create_sheets(self._stack.sheets.endpoint)

    def _figures(self) -> dict[str, int]:
        """What the increment changes, as counts."""
        queries = {
            "rows in analytics_raw_mysql.nps": "select count(*) from analytics_raw_mysql.nps",
            "responses, live": "select count(*) from analytics.fct_nps_responses",
            "days in nps_summary": "select count(*) from analytics.nps_summary",
            "versions in the snapshot": (
                "select count(*) from analytics_snapshots.nps_responses_snapshot"
            ),
        }
        counts = {}
        for name, query in queries.items():
            _, ((count,),) = self._stack.query(query)
            counts[name] = int(count)
        return counts

    def _show_changes(self, before: dict[str, int], after: dict[str, int]) -> None:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="What the day changed")
        for heading in ("", "history", "and a day", "change"):
            table.add_column(heading, justify="left" if not heading else "right")
        for name, count in after.items():
            change = count - before[name]
            table.add_row(name, f"{before[name]:,}", f"{count:,}", f"{change:+,}")
        self._console.print(table)

    def _show_targets(self) -> None:
        headings, rows = self._stack.query(
            "select month, segment, responses, nps, target_nps, is_target_met, owner "
            "from analytics.nps_monthly_vs_target where month = '2026-09-01' order by segment"
        )
        title = "nps_monthly_vs_target, with the targets from the sheet"
        self._show_table(title, headings, [list(map(_text, row)) for row in rows])

    def _show_weather(self) -> None:
        headings, rows = self._stack.query(
            "select forecast_date, temperature_low, temperature_high, precipitation_mm "
            "from analytics_intermediate.int_weather_newest_forecasts "
            "where city = 'Seoul' order by forecast_date"
        )
        title = "The weather in Seoul, as Open-Meteo's stand-in makes it up"
        self._show_table(title, headings, [list(map(_text, row)) for row in rows[-LAST_DAYS:]])

    def _show_summary(self) -> None:
        """The published tab, as its readers see it."""
        tab = self._stack.sheets.endpoint.admin().tab(sample_sheets.SUMMARY, "nps_summary")
        width = tab.formatted[0].index("nps_28d") + 1
        headings, *rows = [row[:width] for row in tab.formatted]
        title = f"nps_summary in the sheet, the last {LAST_DAYS} days"
        self._show_table(title, headings, rows[-LAST_DAYS:])


def _text(value: Any) -> str:
    # BigQuery's emulator forgets how many places a column has.
    return f"{value:.2f}" if isinstance(value, Decimal) else str(value)
