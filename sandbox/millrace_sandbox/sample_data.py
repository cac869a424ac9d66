"""A believable year of NPS responses in MySQL, the same rows on every machine.

Rows are made in blocks of a fixed size, each from its own seed, and sent by
``LOAD DATA LOCAL INFILE``: memory holds a few blocks, whatever the number of rows.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import MySQLdb
import numpy as np
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import csv

from millrace_sandbox.processes import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from millrace_sandbox.mysql import MySQLServer

    Integers = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Booleans = NDArray[np.bool_]
    Random = np.random.Generator

logger = logging.getLogger(__name__)

HISTORY_START = datetime(2025, 10, 1, tzinfo=UTC)
HISTORY_END = datetime(2026, 10, 1, tzinfo=UTC)
INCIDENT = datetime(2026, 3, 10, tzinfo=UTC)
SIGN_UPS_START = HISTORY_START - timedelta(days=365)

SEED = 20251001
LOCK_TIMEOUT = 30
BLOCK_ROWS = 100_000
HOUR = 3_600_000_000
DAY = 24 * HOUR

PLANS = np.array(["free", "team", "business"])
CHANNELS = np.array(["email", "in_app", "sms"])
COUNTRIES = np.array(["KR", "US", "DE", "JP", "GB", "BR", "FR", r"\N"])
COUNTRY_SHARES = [0.34, 0.26, 0.1, 0.09, 0.08, 0.06, 0.05, 0.02]
# First names as written, and as in an e-mail address.
FIRST_NAMES = np.array(["Ada", "Björn", "Chloé", "Diego", "Emma", "Fatima", "Lucía", "Noah"])
FIRST_MAILBOXES = np.array(["ada", "bjorn", "chloe", "diego", "emma", "fatima", "lucia", "noah"])
LAST_NAMES = np.array(["Brown", "Çelik", "Dubois", "García", "Müller", "O'Neil", "Smith", "Wu"])
KOREAN_FIRST_NAMES = np.array(["민준", "서연", "도윤", "지우", "하준", "은우", "지민", "수아"])
KOREAN_FIRST_MAILBOXES = np.array(
    ["minjun", "seoyeon", "doyun", "jiu", "hajun", "eunu", "jimin", "sua"]
)
KOREAN_LAST_NAMES = np.array(["김", "이", "박", "최", "정", "강", "조", "윤"])

# The comments by language and mood (detractor, passive, promoter): openings, and details to
# follow one. The texts go into files as they are, so none holds a tab or a double quote.
ENGLISH = [
    (
        ["Disappointed.", "Too slow.", "It broke again 😡", "Not worth the price.", "Confusing."],
        [
            "Exports fail every other day.",
            "Support took a week to answer.",
            "The app logs me out all the time.",
            "I cannot find anything since the redesign.",
            "We lost a morning of work.",
        ],
    ),
    (
        ["It is fine.", "Good, with rough edges.", "Does the job.", "OK so far 🙂", "Decent."],
        [
            "Search could be better.",
            "The mobile app needs work.",
            "I miss an offline mode.",
            "Prices went up a bit much.",
            "Dark mode, please.",
        ],
    ),
    (
        [
            "Love it! ❤️",
            "Great product.",
            "Best tool we have 🚀",
            "Saves me hours.",
            "Excellent 👩‍💻",
        ],
        [
            "The whole team uses it every day.",
            "Support is quick and kind.",
            "Set up in ten minutes.",
            "The dashboards are lovely 🎉",
            "I recommend it to everyone.",
        ],
    ),
]
KOREAN = [
    (
        ["실망했어요.", "너무 느려요.", "또 오류가 났어요 😡", "가격에 비해 별로예요."],
        ["내보내기가 자주 실패해요.", "문의 답변이 너무 늦어요.", "자꾸 로그아웃돼요 ㅠㅠ"],
    ),
    (
        ["그럭저럭 괜찮아요.", "쓸 만해요 🙂", "나쁘지 않아요.", "무난합니다."],
        ["검색이 더 좋아지면 좋겠어요.", "모바일 앱은 아쉬워요.", "다크 모드가 필요해요."],
    ),
    (
        ["정말 좋아요! ❤️", "최고예요 👍", "매일 잘 쓰고 있어요.", "업무 시간이 확 줄었어요 🚀"],
        ["고객 지원이 빠르고 친절해요.", "팀 전체가 만족합니다 🎉", "주변에 추천하고 있어요."],
    ),
]
# By language (whether Korean) and mood: every opening, alone and with every detail.
TEXTS = {
    is_korean: [
        np.array([*openings, *map(" ".join, product(openings, details))], dtype=object)
        for openings, details in moods
    ]
    for is_korean, moods in ((False, ENGLISH), (True, KOREAN))
}
LONG_PARAGRAPH = (
    "I have used this every day for a year and want to explain my score in some detail. "
    "When it works it saves our team hours, when it does not we wait. "
)

USERS_TABLE = """
    create table if not exists users (
        id bigint unsigned not null auto_increment primary key,
        email varchar(255) not null,
        name varchar(120) not null,
        country char(2),
        plan enum('free', 'team', 'business'),
        is_active tinyint(1),
        signed_up_at datetime(6),
        updated_at datetime(6),
        unique key email (email)
    ) engine = InnoDB default charset = utf8mb4
"""
NPS_TABLE = """
    create table if not exists nps (
        id bigint unsigned not null auto_increment primary key,
        user_id bigint unsigned not null,
        score tinyint unsigned not null,
        comment text null,
        channel enum('email', 'in_app', 'sms') not null,
        created_at datetime(6) not null,
        updated_at datetime(6) not null,
        deleted_at datetime(6) null,
        key updated_at (updated_at),
        key user_id (user_id)
    ) engine = InnoDB default charset = utf8mb4
"""


def create_database(server: MySQLServer, database: str = "prod") -> None:
    """Create the database where it is missing."""
    with _connect(server) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(f"create database if not exists `{database}` character set utf8mb4")


def create_schema(server: MySQLServer, database: str = "prod") -> None:
    """Create the database with empty `users` and `nps` tables, where they are missing."""
    create_database(server, database)
    with _connect(server) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(f"use `{database}`")
        cursor.execute(USERS_TABLE)
        cursor.execute(NPS_TABLE)


def fill_history(
    server: MySQLServer, responses: int = 40_000, users: int = 3_000, database: str = "prod"
) -> None:
    """Replace the tables by new ones with the year up to HISTORY_END.

    Args:
        server: The server; its admin account is used.
        responses: Rows of `nps`, tens of millions if you like.
        users: Rows of `users`, at least one; kept in memory, some 20 bytes each.
        database: The database that holds the tables.
    """
    if users < 1 or responses < 0:
        raise SandboxError(f"{responses} responses by {users} users cannot be made: ask for more.")
    people = _People.of(users)
    with _connect(server, database) as connection, closing(connection.cursor()) as cursor:
        cursor.execute("drop table if exists users, nps")
        cursor.execute(USERS_TABLE)
        cursor.execute(NPS_TABLE)
        # Sorting the keys once is twice as fast as keeping them up to date row by row.
        cursor.execute("alter table nps drop key updated_at, drop key user_id")
        _load(cursor, "users", users, lambda first, rows: _user_rows(people, first, rows))
        _load(
            cursor,
            "nps",
            responses,
            lambda first, rows: _response_rows(people, first, rows, responses),
        )
        cursor.execute("alter table nps add key updated_at (updated_at), add key user_id (user_id)")


def arrive_day(
    server: MySQLServer,
    day: date,
    responses: int = 150,
    edits: int = 40,
    deletions: int = 10,
    new_users: int = 5,
    database: str = "prod",
) -> None:
    """Add one day after the history; a day that was added before is left as it is.

    Args:
        server: The server; its admin account is used.
        day: HISTORY_END's date or a later one.
        responses: New rows of `nps`, at least one.
        edits: Earlier responses whose score, and often comment, change.
        deletions: Earlier responses that are soft-deleted.
        new_users: New rows of `users`.
        database: The database that holds the tables.
    """
    if day < HISTORY_END.date():
        raise SandboxError(f"{day} is in the history, which ends before {HISTORY_END.date()}.")
    if responses < 1:
        raise SandboxError("A day needs at least one response.")
    start = datetime.combine(day, time(), UTC)
    rng = np.random.default_rng([SEED, 3, day.toordinal()])
    with _connect(server, database) as connection, closing(connection.cursor()) as cursor:
        if _has_arrived(cursor, start):
            logger.info("%s has arrived already", day)
            return
        cursor.execute("select coalesce(max(id), 0) from nps")
        last_response = int(cursor.fetchone()[0])
        _add_users(cursor, start, new_users, rng)
        _add_responses(cursor, start, responses, rng)
        _change_responses(cursor, start, last_response, edits, deletions, rng)
        connection.commit()


@contextmanager
def _connect(server: MySQLServer, database: str = "") -> Iterator[Any]:
    try:
        with closing(
            server.connect_as_admin(
                database=database,
                charset="utf8mb4",
                local_infile=True,
                # Dropping a table waits for everyone who reads it, by default for a day.
                init_command=f"set lock_wait_timeout = {LOCK_TIMEOUT}",
            )
        ) as connection:
            yield connection
    except MySQLdb.Error as error:
        raise SandboxError(
            f"Sample data cannot be written to MySQL on {server.host}:{server.port}: {error}"
        ) from error


def _load(cursor: Any, table: str, rows: int, make: Callable[[int, int], pa.Table]) -> None:
    """Make blocks of rows and load them; the next one is made while one is loaded."""
    with TemporaryDirectory() as folder, ThreadPoolExecutor(1) as maker:

        def write(first: int) -> Path:
            block = make(first, max(0, min(BLOCK_ROWS, rows - first)))
            return _write(block, Path(folder) / f"{first}.tsv")

        made = maker.submit(write, 0)
        for first in range(0, rows, BLOCK_ROWS):
            path = made.result()
            # After the last block this makes an empty file.
            made = maker.submit(write, first + BLOCK_ROWS)
            _load_file(cursor, table, path)
            # MySQL would have to keep undo data for all rows if one transaction loaded them.
            cursor.connection.commit()
            path.unlink()
            logger.info("%s: %s of %s rows", table, min(first + BLOCK_ROWS, rows), rows)


def _insert(cursor: Any, table: str, rows: pa.Table) -> None:
    with TemporaryDirectory() as folder:
        _load_file(cursor, table, _write(rows, Path(folder) / "rows.tsv"))


def _write(rows: pa.Table, path: Path) -> Path:
    options = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    csv.write_csv(rows, path, options)
    return path


def _load_file(cursor: Any, table: str, path: Path) -> None:
    cursor.execute(
        f"load data local infile %s into table {table} character set utf8mb4", [str(path)]
    )
    # With LOCAL, MySQL only warns of a row that it leaves out or a value that it changes.
    if cursor.connection.warning_count():
        cursor.execute("show warnings limit 1")
        raise SandboxError(f"Rows of {table} were not loaded as made: {cursor.fetchone()[2]}")


@dataclass(frozen=True)
class _People:
    """What is needed of all users to make responses, indexed by id − 1.

    Attributes:
        signed_up: Microseconds since HISTORY_START, ascending.
        plans: Indexes into PLANS.
        countries: Indexes into COUNTRIES.
    """

    signed_up: Integers
    plans: NDArray[np.int8]
    countries: NDArray[np.int8]

    @classmethod
    def of(cls, users: int) -> _People:
        rng = np.random.default_rng([SEED, 0])
        # More and more sign up. The first does at the very start: there is always one to answer.
        quantiles = (np.arange(users) + rng.random(users)) / users
        quantiles[0] = 0
        span = _microseconds(HISTORY_END) - _microseconds(SIGN_UPS_START)
        return cls(
            signed_up=(_microseconds(SIGN_UPS_START) + quantiles**0.7 * span).astype(np.int64),
            plans=_draw(rng, [0.7, 0.22, 0.08], users),
            countries=_draw(rng, COUNTRY_SHARES, users),
        )


def _user_rows(people: _People, first: int, rows: int) -> pa.Table:
    block = slice(first, first + rows)
    return _user_table(
        ids=np.arange(first + 1, first + rows + 1),
        signed_up=people.signed_up[block],
        plans=people.plans[block],
        countries=people.countries[block],
        rng=np.random.default_rng([SEED, 1, first]),
    )


def _user_table(
    ids: Integers,
    signed_up: Integers,
    plans: NDArray[np.int8],
    countries: NDArray[np.int8],
    rng: Random,
) -> pa.Table:
    rows = len(ids)
    given, family = rng.integers(0, len(FIRST_NAMES), (2, rows))
    is_korean = COUNTRIES[countries] == "KR"
    western = np.strings.add(np.strings.add(FIRST_NAMES[given], " "), LAST_NAMES[family])
    korean = np.strings.add(KOREAN_LAST_NAMES[family], KOREAN_FIRST_NAMES[given])
    mailbox = np.where(is_korean, KOREAN_FIRST_MAILBOXES[given], FIRST_MAILBOXES[given])
    address = np.strings.add(np.strings.add(mailbox, "."), ids.astype(str))
    last_change = signed_up + (rng.exponential(60 * DAY, rows)).astype(np.int64)
    is_changed = (rng.random(rows) < 0.2) & (last_change < _microseconds(HISTORY_END))
    return pa.table(
        {
            "id": ids,
            "email": np.strings.add(address, "@example.com"),
            "name": np.where(is_korean, korean, western),
            "country": COUNTRIES[countries],
            "plan": PLANS[plans],
            "is_active": (rng.random(rows) < 0.93).astype(np.int8),
            "signed_up_at": _texts(signed_up),
            "updated_at": _texts(np.where(is_changed, last_change, signed_up)),
        }
    )


def _response_rows(people: _People, first: int, rows: int, responses: int) -> pa.Table:
    rng = np.random.default_rng([SEED, 2, first])
    hours, cumulative = _response_rate()
    # Each row has its own slice of the year's responses, so ids and times ascend together.
    quantiles = (np.arange(first, first + rows) + rng.random(rows)) / max(responses, 1)
    created = (np.interp(quantiles, cumulative, hours) * HOUR).astype(np.int64)
    known = np.searchsorted(people.signed_up, created, side="right")
    users = (rng.random(rows) * known).astype(np.int64)

    end = _microseconds(HISTORY_END)
    edited = created + 1 + rng.exponential(3 * DAY, rows).astype(np.int64)
    is_edited = (rng.random(rows) < 0.04) & (edited < end)
    updated = np.where(is_edited, edited, created)
    deleted = updated + 1 + rng.exponential(20 * DAY, rows).astype(np.int64)
    is_deleted = (rng.random(rows) < 0.01) & (deleted < end)

    scores = _scores(created, people.plans[users], rng)
    return pa.table(
        {
            "id": np.arange(first + 1, first + rows + 1),
            "user_id": users + 1,
            "score": scores,
            "comment": _comments(scores, COUNTRIES[people.countries[users]] == "KR", rng),
            "channel": CHANNELS[_draw(rng, [0.6, 0.3, 0.1], rows)],
            "created_at": _texts(created),
            "updated_at": _texts(np.where(is_deleted, deleted, updated)),
            "deleted_at": _texts(deleted, is_deleted),
        }
    )


def _response_rate() -> tuple[Floats, Floats]:
    """The hours of the history and the share of all responses that come before each."""
    hours = np.arange((HISTORY_END - HISTORY_START) // timedelta(hours=1))
    weekdays = (hours // 24 + HISTORY_START.weekday()) % 7
    by_weekday = np.array([1.2, 1.25, 1.2, 1.15, 1.0, 0.5, 0.45])[weekdays]
    by_hour = 1.1 - np.cos((hours % 24 - 2) / 24 * 2 * np.pi)
    growth = 1 + 0.6 * hours / len(hours)
    cumulative = np.cumsum(by_weekday * by_hour * growth)
    return (
        np.arange(len(hours) + 1, dtype=np.float64),
        np.concatenate([[0.0], cumulative / cumulative[-1]]),
    )


def _scores(created: Integers, plans: NDArray[np.int8], rng: Random) -> NDArray[np.int8]:
    """Scores that rise over the year, fall at the incident and recover within weeks."""
    days = created / DAY
    since_incident = days - _microseconds(INCIDENT) / DAY
    dip = np.where(since_incident >= 0, 2.7 * np.exp(-np.maximum(since_incident, 0) / 10), 0)
    mean = np.array([7.4, 8.2, 8.9])[plans] + 0.9 * np.minimum(days / 365, 1) - dip
    return np.clip(np.rint(rng.normal(mean, 2.2)), 0, 10).astype(np.int8)


def _comments(scores: NDArray[np.int8], is_korean: Booleans, rng: Random) -> NDArray[np.str_]:
    """One comment per score, as LOAD DATA reads it: most NULL, some empty, a few very long."""
    mood = np.digitize(scores, [7, 9])
    comments = np.full(len(scores), r"\N", dtype=object)
    kinds = _draw(rng, [0.58, 0.04, 0.377, 0.003], len(scores))
    choices = rng.random(len(scores))
    comments[kinds == 1] = ""
    for number, spoken in product(range(3), (False, True)):
        texts = TEXTS[spoken][number]
        chosen = (kinds >= 2) & (mood == number) & (is_korean == spoken)
        comments[chosen] = texts[(choices[chosen] * len(texts)).astype(int)]
    is_long = kinds == 3
    repeats = (3 + choices[is_long] * 20).astype(int)
    # A backslash and an n, which LOAD DATA reads as a line break.
    comments[is_long] += r"\n" + repeats.astype(object) * np.array(LONG_PARAGRAPH, dtype=object)
    return comments


def _has_arrived(cursor: Any, start: datetime) -> bool:
    # The day's responses were not updated before the day, and only updated_at has an index.
    cursor.execute(
        "select 1 from nps where updated_at >= %s and created_at >= %s and created_at < %s limit 1",
        [_text(start), _text(start), _text(start + timedelta(days=1))],
    )
    return cursor.fetchone() is not None


def _add_users(cursor: Any, start: datetime, count: int, rng: Random) -> None:
    cursor.execute("select coalesce(max(id), 0) from users")
    last = int(cursor.fetchone()[0])
    signed_up = np.sort(_within_day(start, count, rng))
    rows = _user_table(
        ids=np.arange(last + 1, last + count + 1),
        signed_up=signed_up,
        plans=_draw(rng, [0.9, 0.08, 0.02], count),
        countries=_draw(rng, COUNTRY_SHARES, count),
        rng=rng,
    )
    _insert(cursor, "users", rows)


def _add_responses(cursor: Any, start: datetime, count: int, rng: Random) -> None:
    cursor.execute("select coalesce(max(id), 0) from nps")
    last = int(cursor.fetchone()[0])
    created = np.sort(_within_day(start, count, rng))
    cursor.execute("select id, plan, country from users where signed_up_at < %s", [_text(start)])
    users = cursor.fetchall()
    chosen = [users[index] for index in rng.integers(0, len(users), count)]
    plans = np.array([PLANS.tolist().index(plan) for _, plan, _ in chosen], dtype=np.int8)
    scores = _scores(created, plans, rng)
    rows = pa.table(
        {
            "id": np.arange(last + 1, last + count + 1),
            "user_id": [user for user, _, _ in chosen],
            "score": scores,
            "comment": _comments(scores, np.array([c == "KR" for _, _, c in chosen]), rng),
            "channel": CHANNELS[_draw(rng, [0.6, 0.3, 0.1], count)],
            "created_at": _texts(created),
            "updated_at": _texts(created),
            "deleted_at": _texts(created, np.zeros(count, dtype=bool)),
        }
    )
    _insert(cursor, "nps", rows)


def _change_responses(
    cursor: Any, start: datetime, last: int, edits: int, deletions: int, rng: Random
) -> None:
    """Edit and soft-delete responses up to the id `last` that are not deleted yet."""
    wanted = edits + deletions
    # More than wanted, as some are deleted already.
    drawn = rng.choice(last, min(last, 2 * wanted), replace=False) + 1
    cursor.execute(
        "select id, score from nps where id in %s and deleted_at is null", [[0, *drawn.tolist()]]
    )
    scores = dict(cursor.fetchall())
    chosen = [int(number) for number in drawn if number in scores][:wanted]
    moments = _texts(_within_day(start, len(chosen), rng))
    changes = list(zip(chosen, moments, strict=True))
    for number, moment in changes[:edits]:
        score = (scores[number] + int(rng.integers(1, 6))) % 11
        keeps_comment = rng.random() < 0.25
        cursor.execute(
            "update nps set score = %s, comment = if(%s, comment, %s), updated_at = %s"
            " where id = %s",
            [score, keeps_comment, f"{scores[number]} → {score} 🤔", moment, number],
        )
    for number, moment in changes[edits:]:
        cursor.execute(
            "update nps set deleted_at = %s, updated_at = %s where id = %s",
            [moment, moment, number],
        )


def _draw(rng: Random, shares: list[float], count: int) -> NDArray[np.int8]:
    """Indexes into `shares`, each as likely as its share."""
    return np.searchsorted(np.cumsum(shares[:-1]), rng.random(count), side="right").astype(np.int8)


def _within_day(start: datetime, count: int, rng: Random) -> Integers:
    return _microseconds(start) + rng.integers(0, DAY, count)


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"


def _microseconds(moment: datetime) -> int:
    return (moment - HISTORY_START) // timedelta(microseconds=1)


def _texts(microseconds: Integers, is_set: Booleans | None = None) -> pa.Array:
    """Times as MySQL reads them; where not set, NULL as LOAD DATA reads it."""
    epoch = int(HISTORY_START.timestamp()) * 1_000_000
    times = pa.array(
        microseconds + epoch, pa.timestamp("us"), mask=None if is_set is None else ~is_set
    )
    return pc.fill_null(times.cast(pa.string()), r"\N")
