"""Values that broke other tools, by what their users told the maintainers.

Each entry names the issue that it comes from, of dlt, Airbyte, sling and gspread. The issues of
ingestr, as far as they could be searched, tell of no such value; its author's bruin has one, below.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

NO_DATE = "a date that no calendar has"
TOO_LONG = "bytes that the warehouse holds"

# Days are compared as numbers, because Python has no year 0.
DAYS = "{} - DATE '2000-01-01'"
_FIRST_DAY = (date(1, 1, 1) - date(2000, 1, 1)).days


@dataclass(frozen=True)
class Hostile:
    """A value in a column of its own.

    Attributes:
        name: The column.
        definition: Its type in MySQL.
        literal: The value as SQL writes it.
        arrives: What the warehouse has, if it fits.
        bad: What is said of it, if it fits no warehouse.
        bad_on_redshift: What is said of it, if it does not fit Redshift.
        on_mysql: Whether MySQL takes it too, and not only MariaDB.
        shown: How the warehouse is asked for it.
    """

    name: str
    definition: str
    literal: str
    arrives: Any = None
    bad: str | None = None
    bad_on_redshift: str | None = None
    on_mysql: bool = True
    shown: str = "{}"


DATES = [
    # airbytehq/airbyte #2601, #4815; dlt-hub/dlt #2699; slingdata-io/sling-cli #386, #285
    Hostile("zero_date", "DATE", "'0000-00-00'", bad=NO_DATE),
    Hostile("zero_datetime", "DATETIME", "'0000-00-00 00:00:00'", bad=NO_DATE),
    Hostile("zero_timestamp", "TIMESTAMP(6) NULL", "'0000-00-00 00:00:00'", bad=NO_DATE),
    # duckdb/duckdb-mysql #180; transferwise/pipelinewise-tap-mysql #136
    Hostile("no_day", "DATETIME", "'2022-11-00 20:59:22'", bad=NO_DATE),
    Hostile("no_month", "DATE", "'2024-00-10'", bad=NO_DATE),
    # What ALLOW_INVALID_DATES lets in: airbytehq/airbyte #16159
    Hostile("no_such_day", "DATE", "'2024-02-30'", bad=NO_DATE),
    Hostile("no_such_moment", "DATETIME(3)", "'2023-02-29 01:02:03.5'", bad=NO_DATE),
    # airbytehq/airbyte #16159, #16574: years that no driver's calendar begins with
    Hostile(
        "year_0",
        "DATE",
        "'0000-12-19'",
        _FIRST_DAY - 13,
        bad_on_redshift="before the year 1",
        shown=DAYS,
    ),
    Hostile("year_7", "DATE", "'0007-01-05'", (date(7, 1, 5) - date(2000, 1, 1)).days, shown=DAYS),
    # dlt-hub/dlt #3184
    Hostile("first_moment", "DATETIME", "'0001-01-01 00:00:00'", datetime(1, 1, 1)),
    Hostile(
        "last_moment",
        "DATETIME(6)",
        "'9999-12-31 23:59:59.999999'",
        datetime(9999, 12, 31, 23, 59, 59, 999_999),
    ),
    Hostile(
        "last_timestamp",
        "TIMESTAMP NULL",
        "'2038-01-19 03:14:07'",
        datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC),
    ),
    # airbytehq/airbyte #3931: a TIME is a duration
    Hostile("long_time", "TIME", "'25:00:00'", "25:00:00"),
    Hostile("negative_time", "TIME(6)", "'-838:59:59'", "-838:59:59.000000"),
    Hostile("no_year", "YEAR", "'0000'", 0),
]

NUMBERS = [
    # airbytehq/airbyte #3840, pull request #7559; slingdata-io/sling-cli #433
    Hostile("unsigned_int", "INT UNSIGNED", "4176160650", 4_176_160_650),
    Hostile("unsigned_short", "SMALLINT UNSIGNED", "65535", 65_535),
    Hostile("unsigned_long", "BIGINT UNSIGNED", "18446744073709551615", Decimal(2**64 - 1)),
    Hostile("smallest_long", "BIGINT", "-9223372036854775808", -(2**63)),
    # airbytehq/airbyte #76180, #3932; slingdata-io/sling-cli #96
    Hostile("no_boolean", "TINYINT(1)", "2", 2),
    Hostile("negative_boolean", "TINYINT(1)", "-128", -128),
    Hostile("one_bit", "BIT(1)", "b'1'", True),
    Hostile("all_bits", "BIT(64)", f"b'{'1' * 64}'", Decimal(2**64 - 1)),
    # slingdata-io/sling-cli #55, #549: decimals that were cut
    Hostile("long_decimal", "DECIMAL(38,18)", "2418474.1033662776", Decimal("2418474.1033662776")),
    Hostile("wide_decimal", "DECIMAL(65,30)", f"{'9' * 35}.{'9' * 30}", f"{'9' * 35}.{'9' * 30}"),
    # dlt-hub/dlt #2224, #2669: decimals that became floats
    Hostile("small_decimal", "DECIMAL(20,10)", "0.0000000001", Decimal("0.0000000001")),
    Hostile("smallest_double", "DOUBLE", "2.2250738585072014e-308", 2.2250738585072014e-308),
]

TEXTS = [
    # airbytehq/airbyte #3476; slingdata-io/sling-cli #710
    Hostile("nul", "VARCHAR(20)", r"'a\0b'", "a\0b", bad_on_redshift="NUL"),
    # slingdata-io/sling-cli #495, #497: half a surrogate pair, which MySQL itself refuses
    Hostile("half_a_pair", "VARCHAR(20)", "x'61EDA08062'", bad="is not UTF-8", on_mysql=False),
    # airbytehq/airbyte #9938, #10032; slingdata-io/sling-cli #13
    Hostile("utf8_bin", "VARCHAR(20) CHARACTER SET utf8mb3 COLLATE utf8mb3_bin", "'тест'", "тест"),
    Hostile("latin", "VARCHAR(20) CHARACTER SET latin1", "'ü€'", "ü€"),
    Hostile("json", "JSON", """'{"fóo": "春江潮水"}'""", '{"fóo": "春江潮水"}'),
    # dlt-hub/verified-sources #543
    Hostile("json_null", "JSON", "'null'", "null"),
    # burnash/gspread #231, #581, #683, #164: texts that look like something else
    Hostile("leading_zeros", "VARCHAR(20)", "'0003'", "0003"),
    Hostile("exponent", "VARCHAR(20)", "'8085807e40000000'", "8085807e40000000"),
    Hostile("not_available", "VARCHAR(20)", "'#N/A'", "#N/A"),
    Hostile("formula", "VARCHAR(20)", "'=1+1'", "=1+1"),
    Hostile("the_word_null", "VARCHAR(20)", "'NULL'", "NULL"),
    Hostile("mark_of_null", "VARCHAR(20)", r"'\\N'", r"\N"),
    Hostile("empty_text", "VARCHAR(20)", "''", ""),
    Hostile("blanks", "VARCHAR(20)", "'  a  '", "  a  "),
    Hostile("quotes", "VARCHAR(40)", r"""'\'"`\\,;\r\n\t'""", "'\"`\\,;\r\n\t"),
    # airbytehq/airbyte #16412, #31216, #12680: 65,535 bytes, and one more
    Hostile("longest", "LONGTEXT", "CONCAT(REPEAT('é', 32767), 'x')", "é" * 32_767 + "x"),
    Hostile(
        "too_long",
        "LONGTEXT",
        "REPEAT('é', 32768)",
        "é" * 32_768,
        bad_on_redshift=f"more than the 65,535 {TOO_LONG}",
    ),
    Hostile(
        "long_blob",
        "LONGBLOB",
        "REPEAT(x'00', 1024001)",
        b"\0" * 1_024_001,
        bad_on_redshift=f"more than the 1,024,000 {TOO_LONG}",
    ),
    # airbytehq/airbyte #3932: a long text that arrived as an empty one
    Hostile(
        "medium",
        "MEDIUMTEXT",
        "REPEAT('x', 4000000)",
        "x" * 4_000_000,
        bad_on_redshift=TOO_LONG,
    ),
]

IN_MYSQL = [*DATES, *NUMBERS, *TEXTS]

# The declared type, what is typed into a cell, and what arrives or is said of it.
IN_A_SHEET: list[tuple[str, Any, Any, str | None]] = [
    # burnash/gspread #231, #581, #683
    ("string", "0003", "0003", None),
    ("string", "8085807e40000000", "8085807e40000000", None),
    # burnash/gspread #952: a number is a number, however it is shown
    ("integer", 5_000_000, 5_000_000, None),
    ("integer", "5,000,000", None, '"5,000,000" is not an integer'),
    # dlt-hub/verified-sources #359: whole and other numbers in one column
    ("decimal(9,2)", 7, Decimal("7.00"), None),
    ("decimal(9,2)", 7.25, Decimal("7.25"), None),
    ("decimal(9,2)", 7.125, None, "has more than 2 decimals"),
    # dlt-hub/verified-sources #553: a date that is not formatted as one
    ("date", 46_143, None, "46143 is a number, not a date"),
    ("date", "2027/04/12", None, '"2027/04/12" is not a date'),
    ("date", date(2027, 4, 12), date(2027, 4, 12), None),
    # burnash/gspread #164: what a formula could not compute is an error, a text is not
    ("string", "#N/A", "#N/A", None),
    ("double", "#N/A", None, '"#N/A" is not a number'),
    ("boolean", "yes", None, '"yes" is not a boolean'),
]

# bruin-data/bruin #2310: from row 25,000 on, each row had the timestamp of an earlier one.
MORE_ROWS_THAN_A_CHUNK = 70_000
