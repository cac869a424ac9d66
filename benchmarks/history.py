"""Raw tables as ingestion leaves them, of any size, made inside the warehouse by SQL alone.

    fill(connection, rows)         in analytics_raw_mysql nps with `rows` responses, and users, in
                                   analytics_raw_google_sheets nps_targets; both ledgers
    add_day(connection, rows)      the loads of the next day: 90 % new responses, 9.5 % edits of the
                                   last fortnight, 0.5 % edits of any age; the users are replaced,
                                   one in 2,500 of them with another plan

`connection` is DuckDB's, or one of `redshift_connector` in autocommit (Redshift or the stand-in;
the SQL keeps to what Redshift takes, so there is no generate_series).

A day has 9,000 responses, however long the history is: 200,000 responses are 22 days, 20 million
are six years. Ids grow with time, as an AUTO_INCREMENT does. Every load is one day; one response in
twenty was edited two days after it was given, so it is in the raw table twice. Everything is a
function of the id and of the load's number, so two warehouses that are filled on the same day hold
the same rows. The history ends today, because some data tests read the latest loads by the clock.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import duckdb

USERS = 50_000
RESPONSES_PER_DAY = 9_000
SECONDS_BETWEEN_RESPONSES = "96 / 10"
FORTNIGHT = 14 * RESPONSES_PER_DAY
CHUNK = 1_000_000
_DAY = 86_400
_LOADED = 2 * 3_600
"""A day is loaded at two o'clock on the next."""

_TYPES = {
    # What ingestion makes of MySQL's types in each warehouse.
    "duckdb": {"key": "decimal(20, 0)", "small": "smallint", "text": "varchar"},
    "redshift": {"key": "decimal(20, 0)", "small": "smallint", "text": "varchar(65535)"},
}
_LEDGER = """(
    table_name varchar(512) not null, batch_id varchar(512) not null, interval_start timestamp,
    interval_end timestamp, manifest_url varchar(2048) not null, row_count bigint not null,
    byte_count bigint not null, extracted_at timestamp not null, loaded_at timestamp not null
)"""


def fill(connection: Any, rows: int) -> None:
    """Make the raw tables with `rows` responses of history."""
    warehouse = _Warehouse.ending_today(connection, loads=_load_of(rows) + 1)
    warehouse.create_tables()
    for first in range(1, rows + 1, CHUNK):
        last = min(first + CHUNK - 1, rows)
        warehouse.insert_history(first, last, final_load=_load_of(rows))
    warehouse.write_history_ledger(_load_of(rows))
    warehouse.replace_users(_load_of(rows))
    warehouse.replace_targets(_load_of(rows))


def add_day(connection: Any, rows: int = 10_000) -> None:
    """Load the next day: `rows` rows of responses, all users and the targets."""
    load, warehouse = _Warehouse.as_filled(connection)
    warehouse.insert_day(load, rows)
    warehouse.replace_users(load)
    warehouse.replace_targets(load)


def _load_of(response: int) -> int:
    return (response - 1) // RESPONSES_PER_DAY


def _mixed(number: str) -> str:
    """Evenly spread digits from a number, the same in every warehouse."""
    return f"(({number}) * 2654435761 % 4294967296 / 1024)"


class _Warehouse:
    """A warehouse that holds the history.

    Args:
        connection: To DuckDB or Redshift.
        origin: The beginning of the first load's day, in UTC.
    """

    def __init__(self, connection: Any, origin: datetime) -> None:
        self._connection = connection
        self._origin = f"timestamp '{origin:%Y-%m-%d %H:%M:%S}'"
        self._kind = "duckdb" if isinstance(connection, duckdb.DuckDBPyConnection) else "redshift"

    @classmethod
    def ending_today(cls, connection: Any, loads: int) -> Self:
        """A history of this many loads, the last of which is today's."""
        today = datetime.now(UTC).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
        return cls(connection, today - timedelta(days=loads))

    @classmethod
    def as_filled(cls, connection: Any) -> tuple[int, Self]:
        """The number of the next load, and where the history is."""
        with closing(connection.cursor()) as cursor:
            cursor.execute(
                "select count(*), max(loaded_at) from analytics_raw_mysql._batches "
                "where table_name = 'mysql.nps'"
            )
            loads, last = cursor.fetchone()
        return loads, cls(connection, last - timedelta(days=loads, seconds=_LOADED))

    def run(self, sql: str) -> list[Any]:
        # DuckDB divides whole numbers into fractions by "/", Redshift does not.
        if self._kind == "duckdb":
            sql = sql.replace(" / ", " // ")
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []

    def time(self, seconds: str) -> str:
        """The SQL of the time this many seconds after the origin."""
        return f"({self._origin} + cast({seconds} as bigint) * interval '1 second')"

    def create_tables(self) -> None:
        types = _TYPES[self._kind]
        loaded = "_batch_id varchar(512) not null, _loaded_at timestamp not null"

        def options(key: str, *sort: str) -> str:
            if self._kind == "duckdb":
                return ""
            return f" distkey ({key}) compound sortkey ({', '.join(('_loaded_at', *sort))})"

        for schema in ("analytics_raw_mysql", "analytics_raw_google_sheets"):
            self.run(f"create schema {schema}")
            self.run(f"create table {schema}._batches {_LEDGER}")
        self.run(
            "create table analytics_raw_mysql.nps (id {key}, user_id {key}, score {small}, "
            "comment {text}, channel {text}, created_at timestamp, updated_at timestamp, "
            "deleted_at timestamp, {loaded}){options}".format(
                loaded=loaded, options=options("id", "updated_at"), **types
            )
        )
        self.run(
            "create table analytics_raw_mysql.users (id {key}, email {text}, country {text}, "
            "plan {text}, is_active smallint, signed_up_at timestamp, updated_at timestamp, "
            "{loaded}){options}".format(loaded=loaded, options=options("id"), **types)
        )
        self.run(
            "create table analytics_raw_google_sheets.nps_targets (month date, segment {text}, "
            "target_nps decimal(5, 2), owner {text}, {loaded}){options}".format(
                loaded=loaded, options=options("month"), **types
            )
        )

    def insert_history(self, first: int, last: int, final_load: int) -> None:
        numbers = self.numbers(first, last)
        load = f"(id - 1) / {RESPONSES_PER_DAY}"
        loads = self.numbers(_load_of(first), _load_of(last) + 2)
        self.run(self.responses(f"select id, {load} as load from ({numbers}) as n", loads))
        edited = (
            f"select id, {load} + 2 as load from ({numbers}) as n "
            f"where id % 20 = 0 and {load} + 2 <= {final_load}"
        )
        self.run(self.responses(edited, loads, is_edit=True))

    def insert_day(self, load: int, rows: int) -> None:
        [[known]] = self.run(
            "select max(id) from analytics_raw_mysql.nps where _loaded_at = (select max(loaded_at) "
            "from analytics_raw_mysql._batches where table_name = 'mysql.nps')"
        )
        known = int(known)
        edits, old_edits = rows * 95 // 1000, rows * 5 // 1000
        new = rows - edits - old_edits
        loads = self.numbers(load, load)
        added = f"select id, {load} as load from ({self.numbers(known + 1, known + new)}) as n"
        self.run(self.responses(added, loads))
        # Every n-th response of the fortnight, and of all before; which ones differs by the day.
        for count, last, span in (
            (edits, known - load % 7, FORTNIGHT),
            (old_edits, known - FORTNIGHT - load % 7, known - FORTNIGHT - 7),
        ):
            edited = (
                f"select {last} - (id - 1) * {span // count} as id, {load} as load "
                f"from ({self.numbers(1, count)}) as n"
            )
            self.run(self.responses(edited, loads, is_edit=True))
        self.write_ledger("analytics_raw_mysql", "mysql.nps", load, rows)

    def responses(self, responses: str, loads: str, is_edit: bool = False) -> str:
        """An INSERT of a version of each response: its first, or an edit on the load's day."""
        mixed = _mixed("responses.id")
        created = self.time(f"responses.id * {SECONDS_BETWEEN_RESPONSES}")
        updated = created
        score = f"{mixed} / 65 % 11"
        deleted = "null"
        if is_edit:
            updated = f"starts_at + responses.id % {_DAY} * interval '1 second'"
            score = f"({mixed} / 65 + load) % 11"
            deleted = f"case when responses.id % 397 = 0 then {updated} end"
        return f"""
            insert into analytics_raw_mysql.nps
            select
                responses.id, 1 + {mixed} % {USERS}, {score},
                case {mixed} % 7
                    when 0 then 'What I like best is how fast it is'
                    when 1 then 'Too dear for what I do with it'
                    when 2 then 'Great!'
                    when 3 then ''
                end,
                case {mixed} % 3 when 0 then 'email' when 1 then 'in_app' else 'sms' end,
                {created}, {updated}, {deleted}, batch_id, loaded_at
            from ({responses}) as responses
            inner join (
                select
                    id as load_id,
                    'nps ' || cast(id as varchar(20)) as batch_id,
                    {self.time(f"id * {_DAY}")} as starts_at,
                    {self.time(f"(id + 1) * {_DAY} + {_LOADED}")} as loaded_at
                from ({loads}) as numbers
            ) as loads on responses.load = loads.load_id
        """

    def replace_users(self, load: int) -> None:
        """Every user is chosen once in 2,500 loads and then changes plan."""
        turns = f"({load} - id % 2500 + 2500) / 2500"
        changed = f"case when {turns} > 0 then ({turns} - 1) * 2500 + id % 2500 else 0 end"
        self.run("delete from analytics_raw_mysql.users")
        self.run(
            f"""
            insert into analytics_raw_mysql.users
            select
                id, 'hash of ' || cast(id as varchar(20)),
                case id % 4 when 0 then 'KR' when 1 then 'DE' when 2 then 'US' else 'BR' end,
                case (id + {turns}) % 3 when 0 then 'free' when 1 then 'team' else 'business' end,
                1, {self._origin}, {self.time(f"({changed}) * {_DAY}")},
                'users {load}', {self.time(f"({load} + 1) * {_DAY} + {_LOADED}")}
            from ({self.numbers(1, USERS)}) as n
            """
        )
        self.run("delete from analytics_raw_mysql._batches where table_name = 'mysql.users'")
        self.write_ledger("analytics_raw_mysql", "mysql.users", load, USERS, is_whole=True)

    def replace_targets(self, load: int) -> None:
        self.run("delete from analytics_raw_google_sheets.nps_targets")
        loaded_at = self.time(f"({load} + 1) * {_DAY} + {_LOADED}")
        month = f"cast(date_trunc('month', {self._origin}) as date)"
        for segment in ("free", "team", "business"):
            self.run(
                "insert into analytics_raw_google_sheets.nps_targets "
                f"select {month}, '{segment}', 12.5, 'Ada', "
                f"'nps_targets {load}', {loaded_at}"
            )
        self.run("delete from analytics_raw_google_sheets._batches")
        self.write_ledger(
            "analytics_raw_google_sheets", "google_sheets.nps_targets", load, 3, is_whole=True
        )

    def write_history_ledger(self, final_load: int) -> None:
        self.run(
            f"""
            insert into analytics_raw_mysql._batches
            select
                'mysql.nps', batch_id,
                case when load > 0 then {self.time(f"load * {_DAY}")} end,
                {self.time(f"(load + 1) * {_DAY}")},
                's3://landing/nps', row_count, 1, {self.time(f"(load + 1) * {_DAY}")},
                {self.time(f"(load + 1) * {_DAY} + {_LOADED}")}
            from (select id as load from ({self.numbers(0, final_load)}) as n) as loads
            inner join (
                select _batch_id as batch_id, count(*) as row_count
                from analytics_raw_mysql.nps
                group by _batch_id
            ) as counts on 'nps ' || cast(load as varchar(20)) = batch_id
            """
        )

    def write_ledger(
        self, schema: str, table: str, load: int, rows: int, *, is_whole: bool = False
    ) -> None:
        start, end = self.time(f"{load} * {_DAY}"), self.time(f"({load} + 1) * {_DAY}")
        interval = "null, null" if is_whole else f"{start}, {end}"
        self.run(
            f"insert into {schema}._batches select '{table}', '{table.split('.')[1]} {load}', "
            f"{interval}, 's3://landing', {rows}, 1, {end}, "
            f"{self.time(f'({load} + 1) * {_DAY} + {_LOADED}')}"
        )

    @staticmethod
    def numbers(first: int, last: int) -> str:
        """A query that gives the integers from `first` to `last`, at most a million, as `id`."""
        digits = " union all ".join(f"select {digit} as digit" for digit in range(10))
        places = len(str(last - first))
        value = " + ".join(f"d{place}.digit * {10**place}" for place in range(places))
        tables = " cross join ".join(f"({digits}) as d{place}" for place in range(places))
        return (
            f"select cast({first} as bigint) + {value} as id from {tables} "
            f"where {value} <= {last - first}"
        )
