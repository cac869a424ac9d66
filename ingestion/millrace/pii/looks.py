"""Columns that look personal although nothing is declared for them.

Judged by their names, and by their values in the first record batch: cheap enough for every batch.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from millrace.catalog import IngestTable

log = logging.getLogger(__name__)

_WORDS = frozenset(
    {
        *("email", "emails", "mail", "phone", "phones", "telephone", "tel", "mobile", "cellphone"),
        *("fax", "address", "addresses", "street", "postcode", "postal", "zip", "zipcode"),
        *("birth", "birthday", "birthdate", "birthplace", "dob", "gender", "nationality"),
        *("ip", "ipv4", "ipv6", "ssn", "iban", "passport", "surname", "firstname", "lastname"),
        *("fullname", "forename", "nickname", "username"),
    }
)
_NAMES_OF_PEOPLE = re.compile(
    r"(^|_)(first|last|full|given|family|middle|maiden|nick|user|contact|customer|person)_names?(_|$)"
)
# What is kept about a personal value: when it was checked, how many there are, which row has it.
_ABOUT = re.compile(r"^(is|has)_|_(id|ids|at|on|count|type|status|verified|valid)$")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_BREAK = re.compile(r"[\W_]+")
_E_MAIL = r"^[^@\s]+@[^@\s]+\.[^@\s]{2,}$"
_SAMPLE_ROWS = 1_000


def watched(batches: Iterable[pa.RecordBatch], table: IngestTable) -> Iterator[pa.RecordBatch]:
    """Pass record batches on; with the first, warn of columns that look personal.

    Not of a column whose declaration has a ``pii`` policy, be it ``none``.
    """
    is_first = True
    for batch in batches:
        if is_first:
            _warn(batch, table)
            is_first = False
        yield batch


def _warn(batch: pa.RecordBatch, table: IngestTable) -> None:
    declared = table.pii.keys() | table.not_personal
    looks = {
        name: looks_personal(name, column)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
        if name not in declared
    }
    suspects = ", ".join(f"{name} ({why})" for name, why in looks.items() if why)
    if suspects:
        log.warning(
            "%s: no `pii` is declared for columns that look personal: %s. Declare `pii: hash`, "
            "`mask` or `drop` for each of them, or `pii: none` if it is not personal.",
            table.key,
            suspects,
        )


def looks_personal(name: str, column: pa.Array) -> str | None:
    """Why a column looks personal; None if it does not."""
    if pa.types.is_boolean(column.type):
        return None
    if _is_personal_name(name):
        return "by its name"
    return "its values are e-mail addresses" if _are_e_mails(column) else None


def _is_personal_name(name: str) -> bool:
    spelt = _BREAK.sub("_", _HUMP.sub("_", name)).lower().strip("_")
    spelt = spelt.replace("e_mail", "email")
    if _ABOUT.search(spelt):
        return False
    return spelt == "name" or bool(_WORDS & set(spelt.split("_")) or _NAMES_OF_PEOPLE.search(spelt))


def _are_e_mails(column: pa.Array) -> bool:
    """Whether most of the first values are e-mail addresses."""
    if not pa.types.is_string(column.type):
        return False
    values = column.slice(0, _SAMPLE_ROWS).drop_null()
    found = pc.sum(pc.match_substring_regex(values, _E_MAIL)).as_py() or 0
    return bool(2 * found > len(values))
