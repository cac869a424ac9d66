"""`millrace scaffold`: what a server knows of its tables becomes a project that builds."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from millrace.scaffold import names
from millrace.scaffold.yaml_text import YamlText, line, scalar
from tests.millrace.shop import TARGETS, Shop, open_shop

if TYPE_CHECKING:
    from tests.millrace.conftest import Database

PROJECT = {
    "dbt_project.yml": """
name: rentals
version: "1.0.0"
profile: millrace
flags: {send_anonymous_usage_stats: false}
"""
}
# The shapes that a database of a film rental has: keys of one and two columns, and of letters;
# references, also to itself; flags, times and days of many names; what SQL has other plans for.
TABLES = """
CREATE TABLE languages (
    id TINYINT UNSIGNED PRIMARY KEY, name CHAR(20) NOT NULL,
    last_update TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
) COMMENT 'What is {{ spoken }}: a list';
CREATE TABLE film (
    film_id INT UNSIGNED PRIMARY KEY AUTO_INCREMENT,
    title VARCHAR(255) NOT NULL COMMENT 'As on the poster: "quoted", 100% #1',
    language TINYINT UNSIGNED NOT NULL,
    sequel_of INT UNSIGNED,
    release_year YEAR,
    rental_rate DECIMAL(4,2) NOT NULL DEFAULT 4.99,
    length_minutes SMALLINT UNSIGNED,
    rating ENUM('G', 'PG') DEFAULT 'G',
    features SET('Trailers', 'Commentaries'),
    poster BLOB,
    shot_at POINT,
    restored TINYINT(1) NOT NULL DEFAULT 0,
    has_sequel BIT(1),
    premiere DATE,
    `order` INT NOT NULL,
    FOREIGN KEY (language) REFERENCES languages (id),
    FOREIGN KEY (sequel_of) REFERENCES film (film_id)
);
CREATE TABLE film_actor (
    actor_id INT NOT NULL, film_id INT UNSIGNED NOT NULL, billed_as VARCHAR(40),
    PRIMARY KEY (actor_id, film_id), FOREIGN KEY (film_id) REFERENCES film (film_id)
);
CREATE TABLE customers (
    id BIGINT UNSIGNED PRIMARY KEY, first_name VARCHAR(45) NOT NULL, contact VARCHAR(90),
    phone VARCHAR(20), signup_ip VARCHAR(40), birthday DATE, createDate DATETIME NOT NULL,
    updated_at DATETIME(6) NOT NULL, deleted_at DATETIME, KEY (updated_at)
);
CREATE TABLE rentals (
    rental_date DATETIME NOT NULL, film_id INT UNSIGNED NOT NULL,
    customer_id BIGINT UNSIGNED NOT NULL, modified DATETIME, note TEXT,
    UNIQUE KEY (rental_date, film_id, customer_id),
    FOREIGN KEY (customer_id) REFERENCES customers (id)
);
CREATE TABLE nothing_yet (code VARCHAR(8) PRIMARY KEY, amount DOUBLE);
CREATE VIEW film_list AS SELECT film.title, languages.name AS language
FROM film INNER JOIN languages ON film.language = languages.id
"""
ROWS: dict[str, list[tuple[Any, ...]]] = {
    "languages (id, name)": [(1, "English"), (2, "Español")],
    "film (film_id, title, language, `order`, restored, has_sequel, premiere)": [
        (1, "Academy Dinosaur", 1, 7, 0, 1, "2006-02-15"),
        (2, "Ace Goldfinger", 2, 8, 1, 0, None),
    ],
    "film_actor": [(1, 1, "Penelope"), (1, 2, None)],
    "customers": [
        (
            *(2**40, "Mary", "mary@example.com", "+41 44 555", "192.0.2.7", "1980-01-02"),
            *("2026-09-01", "2026-09-30 08:00:00", None),
        )
    ],
    "rentals": [("2026-09-30 10:00:00", 1, 2**40, None, "late")],
}


def fill(mysql: Database) -> None:
    for statement in TABLES.split(";"):
        mysql.execute(statement)
    for table, rows in ROWS.items():
        mysql.insert(table, rows)


@pytest.fixture(params=TARGETS)
def shop(request: pytest.FixtureRequest, mysql: Database, tmp_path: Path) -> Shop:
    fill(mysql)
    return open_shop(
        request,
        mysql,
        tmp_path,
        PROJECT,
        WAREHOUSE_SCHEMA=f"scaffold_{request.param}",
        MILLRACE_PII_SALT="a salt",
    )


def written(shop: Shop) -> dict[Path, str]:
    """The files of the project by their paths."""
    folder = shop.project.folder / "models"
    return {path: path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.service
@pytest.mark.nightly
def test_what_is_scaffolded_ingests_and_builds_and_a_new_column_is_all_that_is_added(
    shop: Shop, mysql: Database
) -> None:
    said = shop.run("millrace", "scaffold", "mysql")
    assert "mysql.rentals" in said
    folder = shop.project.folder / "models" / "staging" / "mysql"
    sources = yaml.safe_load((folder / "_mysql__sources.yml").read_text())["sources"][0]
    tables = {table["name"]: table for table in sources["tables"]}
    ingest = {name: table["config"]["meta"]["ingest"] for name, table in tables.items()}
    place = mysql.name
    assert ingest == {
        "languages": {
            "table": f"{place}.languages",
            "primary_key": ["id"],
            "cursor": "last_update",
        },
        "film": {"table": f"{place}.film", "primary_key": ["film_id"]},
        "film_actor": {"table": f"{place}.film_actor", "primary_key": ["actor_id", "film_id"]},
        "customers": {
            "table": f"{place}.customers",
            "primary_key": ["id"],
            "cursor": "updated_at",
            "deletes": {"soft": "deleted_at"},
        },
        "rentals": {
            "table": f"{place}.rentals",
            "primary_key": ["rental_date", "film_id", "customer_id"],
        },
        "nothing_yet": {"table": f"{place}.nothing_yet", "primary_key": ["code"], "min_rows": 0},
        "film_list": {"table": f"{place}.film_list"},
    }
    personal = {
        column["name"]: column["config"]["meta"]["pii"]
        for column in tables["customers"]["columns"]
        if "config" in column
    }
    assert personal == {
        "first_name": "drop", "contact": "hash", "phone": "hash", "signup_ip": "hash",
        "birthday": "drop",
    }  # fmt: skip

    shop.run("millrace", "ingest")
    shop.run("dbt", "build")
    schema = shop.environment["WAREHOUSE_SCHEMA"]
    assert shop.query(
        "select film_id, is_restored, has_sequel, film_order, language_id, sequel_of_id, "
        f"premiere_date from {schema}.stg_mysql__film order by 1"
    )[0][:5] == (1, False, True, 7, 1)
    assert shop.query(f"select customer_id, is_deleted from {schema}.stg_mysql__customers") == [
        (2**40, False)
    ]

    assert "everything is declared" in shop.run("millrace", "scaffold", "mysql")
    # What a person writes stays, and what the server gets comes.
    models = folder / "_mysql__models.yml"
    models.write_text(f"# Ours.\n{models.read_text()}\n\n# The end.\n")
    before = written(shop)
    mysql.execute("ALTER TABLE film ADD rented_out TINYINT(1) NOT NULL DEFAULT 1 COMMENT 'Is it?'")
    mysql.execute("ALTER TABLE customers ADD email_address VARCHAR(99)")
    said = shop.run("millrace", "scaffold", "mysql")
    assert "mysql.film: new columns rented_out" in said
    after = written(shop)
    changed = {
        path.name: [
            changed
            for changed in difflib.ndiff(before[path].splitlines(), text.splitlines())
            if changed[0] in "+-"
        ]
        for path, text in after.items()
        if before[path] != text
    }
    assert changed == {
        "_mysql__sources.yml": [
            "+           - name: email_address",
            "+             # Personal: by its name. Its hash still joins.",
            "+             config: {meta: {pii: hash}}",
            "+           - name: rented_out",
            "+             description: Is it?",
        ],
        "_mysql__models.yml": [
            "+       - name: email_address_hash",
            "+       - name: is_rented_out",
            "+         description: Is it?",
            "+         data_tests: [not_null]",
        ],
        "stg_mysql__film.sql": ["+         rented_out = 1 as is_rented_out,"],
        "stg_mysql__customers.sql": ["+         email_address as email_address_hash,"],
    }
    shop.run("millrace", "ingest")
    shop.run("dbt", "build")


@pytest.mark.service
def test_a_dry_run_writes_nothing_and_patterns_choose(
    request: pytest.FixtureRequest, mysql: Database, tmp_path: Path
) -> None:
    fill(mysql)
    request.param = "dev"
    shop = open_shop(request, mysql, tmp_path, PROJECT)
    said = shop.run("millrace", "scaffold", "mysql", "film*", "--dry-run")
    assert "Nothing was changed." in said
    assert "+  - name: stg_mysql__film_actor" in said
    assert "customers" not in said
    assert written(shop) == {}
    with pytest.raises(AssertionError, match=r"MySQL has no table \S+\.filn that"):
        shop.run("millrace", "scaffold", "mysql", "filn")
    shop.run("millrace", "scaffold", "mysql", "film")
    # What it refers to came later: the test of the reference is with the table that is new.
    shop.run("millrace", "scaffold", "mysql", f"{mysql.name}.film_actor")
    models = (shop.project.folder / "models/staging/mysql/_mysql__models.yml").read_text()
    assert "arguments: {to: ref('stg_mysql__film'), field: film_id}" in models


def test_names_are_those_of_the_conventions() -> None:
    assert [
        names.snake(name) for name in ("orderItems", "OrderID", "HTTPServer", "a b", "1st")
    ] == [*("order_items", "order_id", "http_server", "a_b", "_1st")]
    plurals = "orders", "categories", "boxes", "status", "addresses", "nps", "film_text"
    assert [names.singular(name) for name in plurals] == [
        *("order", "category", "box", "status", "address", "nps", "film_text")
    ]
    times = "last_update", "created", "payment_date", "created_on", "updated_at", "event_ts"
    assert [names.moment(name) for name in times] == [
        *("last_update_at", "created_at", "payment_at", "created_at", "updated_at", "event_at")
    ]
    assert [names.day(name) for name in ("birthday", "born", "start_on", "ship_date")] == [
        *("birthday", "born_date", "start_date", "ship_date")
    ]
    assert [names.is_plain(name) for name in ("order", "orders", "Group", "größe")] == [
        *(False, True, False, False)
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("yes", "null", "1.5", "a: b", "a #b", "- a", "it's", 'say "x"', "100% sure, or?", ""),
        *(
            "{{ x }}",
            "[a]",
            "*a",
            "&a",
            "!a",
            "@a",
            " a",
            "a ",
            "a:b",
            "naïve",
            "a\tb",
            "# a",
            ": ",
        ),
    ],
)
def test_texts_are_written_as_yaml_reads_them(text: str) -> None:
    assert yaml.safe_load(f"a: {line(text)}") == {"a": text}
    assert yaml.safe_load(f"a: [{scalar(text)}, 1]") == {"a": [text, 1]}


def test_an_entry_is_added_as_text_wherever_the_list_ends() -> None:
    text = YamlText(
        "# Ours\nmodels:\n    - name: a   # the first\n"
        "      description: >\n        One\n        two\n\n"
        "    # the last comment\nother: 1\n",
        Path("models.yml"),
    )
    text.append(["models"], ["name: b", "columns:", "  - name: id"])
    text.append(["models", ("name", "a"), "columns"], ["name: id"])
    assert text.text == (
        "# Ours\nmodels:\n    - name: a   # the first\n"
        "      description: >\n        One\n        two\n"
        "      columns:\n        - name: id\n"
        "    - name: b\n      columns:\n        - name: id\n\n    # the last comment\nother: 1\n"
    )
