import copy
import json
import unicodedata

import pytest

from millrace.catalog import Model, Pii, load_catalog
from millrace.catalog.dbt_manifest import MANIFEST_SCHEMA
from millrace.errors import DeclarationError, ProjectError

SOURCE = {"kind": "mysql", "connection": "mysql_prod", "schedule": "@hourly"}
TABLE = {"table": "prod.nps", "primary_key": ["id"], "cursor": "updated_at"}


def source_node(name="nps", *, ingest=TABLE, defaults=SOURCE, columns=None):
    """A source's node as dbt 1.11 writes it, with the table's meta merged over the source's."""
    return {
        "unique_id": f"source.millrace.mysql.{name}",
        "source_name": "mysql",
        "name": name,
        "schema": "raw_mysql",
        "identifier": name,
        "original_file_path": "models/staging/mysql/_mysql__sources.yml",
        "source_meta": {"ingest": defaults} if defaults is not None else {},
        "meta": {"ingest": ingest} if ingest is not None else {},
        "columns": {
            column: {"name": column, "meta": {"pii": policy}}
            for column, policy in (columns or {}).items()
        },
    }


MART = {"unique_id": "model.m.nps_summary", "name": "nps_summary", "schema": "s", "alias": "a"}
PUBLISH = {
    "kind": "google_sheet",
    "connection": "google_sheets",
    "spreadsheet": "a-key",
    "tab": "nps",
    "order_by": ["day"],
}


def exposure_node(name="nps_sheet", **changes):
    return {
        "unique_id": f"exposure.m.{name}",
        "name": name,
        "original_file_path": "models/marts/_exposures.yml",
        "depends_on": {"nodes": [MART["unique_id"]]},
        "meta": {"publish": {**PUBLISH, **changes}},
    }


@pytest.fixture
def catalog_of(tmp_path):
    def load(*nodes, exposures=(), models=(), version=MANIFEST_SCHEMA):
        path = tmp_path / "manifest.json"
        path.write_text(
            json.dumps(
                {
                    "metadata": {"dbt_schema_version": version},
                    "sources": {node["unique_id"]: node for node in nodes},
                    "exposures": {node["unique_id"]: node for node in exposures},
                    "nodes": {node["unique_id"]: node for node in (MART, *models)},
                }
            )
        )
        return load_catalog(path)

    return load


def test_a_table_adds_to_the_defaults_of_its_source(catalog_of):
    table = catalog_of(source_node()).table("mysql.nps")
    assert table.options.schedule == "@hourly"
    assert table.options.table == "prod.nps"
    assert table.options.primary_key == ("id",)
    assert not table.is_full_refresh


def test_a_table_without_a_cursor_is_read_whole_and_must_not_be_empty(catalog_of):
    table = catalog_of(source_node(ingest={"table": "prod.users", "primary_key": "id"})).table(
        "mysql.nps"
    )
    assert table.is_full_refresh
    assert table.options.primary_key == ("id",)
    assert table.min_rows == 1


def test_an_interval_may_be_empty_unless_told(catalog_of):
    assert catalog_of(source_node()).tables[0].min_rows == 0
    assert catalog_of(source_node(ingest={**TABLE, "min_rows": 5})).tables[0].min_rows == 5


def test_a_table_without_a_block_is_not_ours(catalog_of):
    assert catalog_of(source_node(ingest=None, defaults=None)).tables == ()


def test_a_column_that_only_looks_personal_has_no_policy(catalog_of):
    (table,) = catalog_of(source_node(columns={"name": "none", "email": "hash"})).tables
    assert table.not_personal == {"name"}
    assert table.pii == {"email": Pii.HASH}


def test_pii_policies_are_read(catalog_of):
    table = catalog_of(source_node(columns={"email": "hash", "name": "drop"})).tables[0]
    assert table.pii == {"email": Pii.HASH, "name": Pii.DROP}


def test_the_columns_that_are_described_are_known(catalog_of):
    table = catalog_of(source_node(columns={"id": None, "email": "hash"})).tables[0]
    assert table.columns == ("id", "email")


def test_the_models_and_snapshots_that_read_a_table_are_known(catalog_of):
    def reader(kind, name, *parents):
        return {
            "unique_id": f"{kind}.millrace.{name}",
            "resource_type": kind,
            "name": name,
            "schema": "staging",
            "alias": f"{name}_1",
            "raw_code": f"select {name}",
            "depends_on": {"nodes": list(parents)},
        }

    source = "source.millrace.mysql.nps"
    models = [
        reader("model", "stg", source),
        reader("model", "mart", "model.millrace.stg"),
        reader("snapshot", "kept", source, "source.millrace.other.table"),
        reader("test", "unique_id", source),
    ]
    assert catalog_of(source_node(), models=models).readers == {
        "mysql.nps": (
            Model("stg", "staging", "stg_1", "select stg"),
            Model("kept", "staging", "kept_1", "select kept"),
        )
    }


@pytest.mark.parametrize("policy", ["evolve", "additive", "freeze"])
def test_the_policy_for_changed_columns_is_read(catalog_of, policy):
    options = catalog_of(source_node(ingest={**TABLE, "schema": policy})).tables[0].options
    assert options.schema_policy == policy
    # Options are dumped and read again to change one of them.
    assert type(options).model_validate(options.model_dump()) == options
    assert catalog_of(source_node()).tables[0].options.schema_policy == "additive"


@pytest.mark.parametrize(
    ("change", "what", "way_out"),
    [
        ({"cursr": "updated_at"}, "has an unknown key 'cursr'", "Did you mean 'cursor'?"),
        ({"kind": "mysq"}, "meta.ingest.kind is 'mysq'", "Did you mean 'mysql'?"),
        ({"primary_key": []}, "lacks the key 'primary_key'", "Allowed: kind, connection"),
        ({"cursor": {"column": "at", "zone": "UTC"}}, "unknown key 'cursor.zone'", "Allowed:"),
        ({"cursor": {"column": "at", "time_zone": "Mars"}}, "America/New_York", "Allowed:"),
        ({"table": "a.b.c"}, "has table: 'a.b.c'", "Allowed: kind"),
        ({"min_rows": -1}, "has min_rows: -1", "Allowed: kind"),
        ({"schema": "frozen"}, "has schema: 'frozen'", "Allowed: kind"),
        ({"new_columns": "add"}, "unknown key 'new_columns'", "The key `schema` has replaced it"),
        ({"schedule": "every day"}, "has schedule: 'every day'", "Allowed: kind"),
    ],
)
def test_a_typo_is_refused_by_file_node_and_key(catalog_of, change, what, way_out):
    with pytest.raises(DeclarationError) as refused:
        catalog_of(source_node(ingest={**TABLE, **change}))
    assert "_mysql__sources.yml: source table mysql.nps" in refused.value.message
    assert what in refused.value.message
    assert way_out in refused.value.fix


SHEET = {
    "kind": "google_sheet",
    "connection": "google_sheets",
    "spreadsheet": "key",
    "tab": "targets",
    "columns": {"month": "date", "nps": "double"},
}


def test_names_from_a_sheet_are_composed(catalog_of):
    prénom = unicodedata.normalize("NFD", "prénom")
    block = {**SHEET, "columns": {prénom: "string"}, "labels": {prénom: "%"}, "primary_key": prénom}
    options = catalog_of(source_node(ingest=block, defaults=None)).tables[0].options
    assert options.columns == {"prénom": "string"}
    assert options.labels == {"prénom": "%"}
    assert options.primary_key == ("prénom",)
    assert options.other_columns == "ignore"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"columns": {"Month": "date"}}, "Month: write it in lower case"),
        ({"columns": {"%": "date"}}, "%: write it in lower case"),
        ({"columns": {"n": "decimal(٥,٢)"}}, "is not a type"),
        ({"labels": {"npss": "NPS"}}, "npss is no declared column"),
        ({"labels": {"nps": " "}}, "a label is not blank"),
        ({"labels": {"nps": "Month "}}, "two columns would have the same heading"),
        ({"other_columns": "add"}, "has other_columns: 'add'"),
    ],
)
def test_a_sheets_columns_and_labels_have_to_make_sense(catalog_of, change, says):
    with pytest.raises(DeclarationError, match=says):
        catalog_of(source_node(ingest={**SHEET, **change}, defaults=None))


def test_every_problem_of_a_block_is_named_at_once(catalog_of):
    with pytest.raises(DeclarationError) as refused:
        catalog_of(source_node(ingest={"cursr": "x", "min_rows": "few"}))
    for part in ("'cursr'", "min_rows", "lacks the key 'table'"):
        assert part in refused.value.message


def test_an_unknown_pii_policy_is_refused(catalog_of):
    with pytest.raises(DeclarationError, match=r"column email: meta.pii is 'hsh'"):
        catalog_of(source_node(columns={"email": "hsh"}))


def test_a_block_that_is_no_block_is_refused(catalog_of):
    with pytest.raises(DeclarationError, match="not a block of keys"):
        catalog_of(source_node(ingest="mysql"))


def test_an_unknown_table_suggests_a_known_one(catalog_of):
    with pytest.raises(DeclarationError, match=r"Did you mean 'mysql\.nps'"):
        catalog_of(source_node()).table("mysql.npss")


def test_two_tables_cannot_share_a_raw_table(catalog_of):
    other = copy.deepcopy(source_node("nps_again"))
    other["identifier"] = "nps"
    with pytest.raises(DeclarationError, match=r"raw_mysql\.nps"):
        catalog_of(source_node(), other)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"tab": "NPS"},
        {"spreadsheet": "https://docs.google.com/spreadsheets/d/a-key/edit#gid=0"},
        {"at": "H1"},
    ],
    ids=str,
)
def test_two_exposures_cannot_publish_to_one_tab(catalog_of, other):
    exposures = [exposure_node("one"), exposure_node("two", **other)]
    with pytest.raises(DeclarationError, match="exposures one and two would both publish") as told:
        catalog_of(exposures=exposures)
    assert "another place" in told.value.fix
    elsewhere = exposure_node("two", **{**other, "tab": "other"})
    assert len(catalog_of(exposures=[exposures[0], elsewhere]).publications) == 2


CHART = {"kind": "line", "x": "day", "y": ["nps"]}


@pytest.mark.parametrize(
    ("change", "says", "fix"),
    [
        ({"chart": CHART | {"y": ["nsp"]}}, "`chart` names the column 'nsp'", "mean 'nps'"),
        (
            {"chart": CHART, "columns": ["day"]},
            "`chart` names the column 'nps', which is not published",
            "Columns: day",
        ),
        ({"columns": ["dya"]}, "which nps_summary does not have", "mean 'day'"),
        ({"order_by": ["date"]}, "`order_by` names the column 'date'", "Columns: day, nps"),
        ({"key": "id"}, "`key` names the column 'id', which is not published", "day, nps"),
        ({"chart": CHART | {"kind": "pie"}}, "has chart.kind: 'pie'", ""),
        ({"chart": CHART | {"y": []}}, "has chart.y", ""),
    ],
    ids=str,
)
def test_a_column_that_the_contract_does_not_have_is_refused(catalog_of, change, says, fix):
    contract = {"config": {"contract": {"enforced": True}}, "columns": {"day": {}, "nps": {}}}
    declared = [exposure_node(**change)]
    with pytest.raises(DeclarationError, match=says) as refused:
        catalog_of(exposures=declared, models=[MART | contract])
    assert fix in refused.value.fix


def test_a_mart_without_a_contract_is_asked_when_it_is_published(catalog_of):
    [found] = catalog_of(exposures=[exposure_node(chart=CHART | {"y": "any"})]).publications
    assert found.options.chart.y == ("any",)


def test_rows_are_known_by_what_orders_them_unless_told(catalog_of):
    plain, told = catalog_of(
        exposures=[exposure_node("a"), exposure_node("b", tab="b", key="id", at="B3")]
    ).publications
    assert (plain.options.row_key, plain.options.at, plain.options.follow_rows) == (
        ("day",),
        "A1",
        False,
    )
    assert told.options.row_key == ("id",)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"at": "B0"}, "has at: 'B0'"),
        ({"at": "B3:C"}, "has at: 'B3:C'"),
        ({"labels": {"nps": ""}}, "a label is not blank"),
        ({"follow_row": True}, "unknown key 'follow_row'"),
    ],
)
def test_a_publication_that_makes_no_sense_is_refused(catalog_of, change, says):
    with pytest.raises(DeclarationError, match=says):
        catalog_of(exposures=[exposure_node(**change)])


def test_a_missing_manifest_says_how_to_make_one(tmp_path):
    with pytest.raises(ProjectError, match=r"dbt parse"):
        load_catalog(tmp_path / "manifest.json")


def test_a_manifest_cut_short_is_refused(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text('{"metadata": {')
    with pytest.raises(ProjectError, match="is not JSON"):
        load_catalog(path)


def test_the_manifest_of_another_dbt_is_refused(catalog_of):
    with pytest.raises(ProjectError, match="another version of dbt"):
        catalog_of(source_node(), version="https://schemas.getdbt.com/dbt/manifest/v11.json")


@pytest.mark.parametrize(
    "name", ["..", "../x", "a/b", "a\\b", ".hidden", "", "a b", "a\nb", "{{ x }}", "%2e", "x" * 101]
)
@pytest.mark.parametrize("key", ["name", "source_name"])
def test_a_name_that_can_be_no_folder_is_refused(catalog_of, key, name):
    with pytest.raises(DeclarationError, match="cannot name a folder and a DAG") as refused:
        catalog_of(source_node() | {key: name})
    assert "`identifier`" in refused.value.fix


@pytest.mark.parametrize("name", ['a"b', "a\nb", "a\x1b[2J", "a\0", "a\u2028b"])
@pytest.mark.parametrize("key", ["schema", "identifier"])
def test_a_raw_table_that_dbt_cannot_quote_is_refused(catalog_of, key, name):
    with pytest.raises(DeclarationError, match=rf"{key} is .*, which dbt cannot quote") as refused:
        catalog_of(source_node() | {key: name})
    assert repr(name) in refused.value.message


@pytest.mark.parametrize("name", ["{{ x }}", "it's", "50 %", "../up", "größe", "☃"])
def test_a_raw_table_may_have_any_name_that_dbt_can_quote(catalog_of, name):
    assert catalog_of(source_node() | {"identifier": name}).tables[0].identifier == name


def test_names_are_told_apart_by_their_first_dot(catalog_of):
    assert catalog_of(source_node("v1.orders")).table("mysql.v1.orders").name == "v1.orders"
    with pytest.raises(DeclarationError, match=r"the source's name is 'mysql\.v1'"):
        catalog_of(source_node("orders") | {"source_name": "mysql.v1"})
