import json
import os
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.connections import Connection, endpoint_of, from_environment, masked, variable_of
from millrace.errors import ConnectionNotFound


def test_a_uri_is_read_with_its_escapes(monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_MYSQL_PROD",
        "mysql://re%40der:p%2Fw%3A%40%25@db.internal:3307/prod?ssl_mode=REQUIRED",
    )
    found = from_environment(os.environ, "mysql_prod")
    assert (found.conn_type, found.host, found.port) == ("mysql", "db.internal", 3307)
    assert (found.login, found.password, found.schema) == ("re@der", "p/w:@%", "prod")
    assert found.extra == {"ssl_mode": "REQUIRED"}


def test_a_uri_may_carry_its_extra_as_json(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_X", "aws://?__extra__=%7B%22role_arn%22%3A+%22arn%3Ax%22%7D")
    assert from_environment(os.environ, "x").extra == {"role_arn": "arn:x"}


@pytest.mark.parametrize("as_text", [True, False])
def test_json_is_read_with_its_extra_as_text_or_object(monkeypatch, as_text):
    extra = {"endpoint_url": "http://127.0.0.1:1"}
    value: dict[str, object] = {"conn_type": "aws", "login": "k", "password": "s", "port": "8333"}
    value["extra"] = json.dumps(extra) if as_text else extra
    monkeypatch.setenv("AIRFLOW_CONN_AWS_LANDING", json.dumps(value))
    found = from_environment(os.environ, "aws_landing")
    assert found.extra == extra
    assert found.port == 8333


_texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


@given(
    conn_type=st.sampled_from(["mysql", "aws", "google_cloud_platform"]),
    host=st.none() | st.sampled_from(["db.example.com", "127.0.0.1", "::1"]),
    port=st.none() | st.integers(1, 65_535),
    login=st.none() | _texts,
    password=st.none() | _texts,
    schema=st.none() | _texts,
    extra=st.dictionaries(_texts, _texts | st.integers()),
)
def test_what_is_to_be_kept_of_a_connection_says_all_of_it(**fields):
    if fields["host"] is None:
        # A port of no host, and a password of nobody.
        fields |= {"port": None, "login": None, "password": None}
    elif fields["login"] is None:
        fields |= {"password": None}
    connection = Connection("some_id", **fields)
    variable, uri = variable_of(connection)
    assert from_environment({variable: uri}, "some_id") == connection


def test_a_name_that_no_variable_can_have_is_refused():
    with pytest.raises(ConnectionNotFound, match="'mysql-prod' cannot be part of"):
        variable_of(Connection("mysql-prod", "mysql"))


def test_a_missing_connection_names_its_variable(monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_NOWHERE", raising=False)
    with pytest.raises(ConnectionNotFound, match="AIRFLOW_CONN_NOWHERE is not set"):
        from_environment(os.environ, "nowhere")


@pytest.mark.parametrize(
    "text", ["{not json", "mysql://user:hunter2@host:port/db", "hunter2", "5", "null", '"hunter2"']
)
def test_what_cannot_be_read_is_refused_without_showing_it(monkeypatch, text):
    monkeypatch.setenv("AIRFLOW_CONN_X", text)
    with pytest.raises(ConnectionNotFound, match="neither a URI nor JSON") as refused:
        from_environment(os.environ, "x")
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_connection_does_not_show_its_secrets(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_X", "mysql://u:hunter2@h/db?token=hunter3")
    shown = repr(from_environment(os.environ, "x"))
    assert "hunter2" not in shown
    assert "hunter3" not in shown


@pytest.mark.parametrize("reserved", ["#", "/", "?", "%", "#1", "/1", "?1", "1#", "1/", "1?", "%4"])
@pytest.mark.parametrize(
    "uri",
    [
        "mysql://reader:{}hunter2@db.internal:3306/prod",
        "mysql://reader:hunter2{}@db.internal:3306/prod",
        "mysql://reader:1{}hunter2@db.internal/prod?ssl_mode=REQUIRED",
        "mysql://{}hunter2:pw@db.internal/prod",
        "mysql://reader:@{}hunter2@db.internal/prod",
    ],
)
def test_a_password_that_is_not_encoded_never_becomes_another_host(monkeypatch, uri, reserved):
    monkeypatch.setenv("AIRFLOW_CONN_X", uri.format(reserved))
    with pytest.raises(ConnectionNotFound, match="percent-encoded") as refused:
        from_environment(os.environ, "x")
    assert "hunter2" not in str(refused.value)
    assert "# is %23, / is %2F, ? is %3F, @ is %40, % is %25" in refused.value.fix


@pytest.mark.parametrize("character", ["#", "/", "?", "%", "@", ":", "&", "+", "[", "é", " "])
def test_a_password_of_any_character_is_read_once_it_is_encoded(monkeypatch, character):
    password = f"{character}hunter{character}2{character}"
    monkeypatch.setenv("AIRFLOW_CONN_X", f"mysql://reader:{quote(password, safe='')}@db:3306/prod")
    found = from_environment(os.environ, "x")
    assert (found.login, found.password, found.host, found.port, found.schema) == (
        *("reader", password, "db", 3306, "prod"),
    )


def test_an_at_sign_in_a_password_is_no_end_of_it(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_X", "mysql://reader:hunter@2@db/prod")
    found = from_environment(os.environ, "x")
    assert (found.password, found.host) == ("hunter@2", "db")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"port": "3306x"}, "port"),
        ({"port": 0}, "port"),
        ({"port": 65_536}, "port"),
        ({"port": [3306]}, "port"),
        ({"port": True}, "port"),
        ({"password": 271828}, "password"),
        ({"login": ["hunter2"]}, "login"),
        ({"host": 5}, "host"),
        ({"schema": {}}, "schema"),
        ({"extra": 5}, "extra"),
        ({"extra": "[1]"}, "extra"),
        ({"extra": ["hunter2"]}, "extra"),
        ({"extra": "hunter2"}, "extra"),
        ({"extra": "[" * 100_000}, "extra"),
        ({"conn_type": None}, "conn_type"),
        ({"conn_type": ""}, "conn_type"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named_without_showing_it(monkeypatch, changes, field):
    value = {"conn_type": "mysql", "host": "db", "password": "hunter2"} | changes
    monkeypatch.setenv("AIRFLOW_CONN_X", json.dumps(value))
    with pytest.raises(ConnectionNotFound, match=f"AIRFLOW_CONN_X: its {field} is not") as refused:
        from_environment(os.environ, "x")
    assert "hunter2" not in str(refused.value)
    assert "271828" not in str(refused.value)


def test_a_list_of_connections_is_none(monkeypatch):
    """`airflow connections get -o json` prints such a list."""
    monkeypatch.setenv("AIRFLOW_CONN_X", '[{"conn_type": "mysql", "password": "hunter2"}]')
    with pytest.raises(ConnectionNotFound, match="is a list: leave out the brackets"):
        from_environment(os.environ, "x")


def test_empty_fields_are_none(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_X", '{"conn_type": "aws", "port": "", "extra": ""}')
    found = from_environment(os.environ, "x")
    assert (found.port, found.extra) == (None, {})


@pytest.mark.parametrize(
    "text",
    [
        "error of http://key:hunter2@host:1/x in 3 s",
        "http://hunter2@host",
        "http://key:hun/ter2@host/x (and) s3://a:hunter2@b",
        "http://key:hunter2@x@host",
    ],
)
def test_the_secrets_of_urls_are_masked(text):
    assert "hunter2" not in masked(text)
    assert "ter2" not in masked(text)
    assert "://***@" in masked(text)


@pytest.mark.parametrize(
    "url",
    [
        *("https://s3.example.com", "http://127.0.0.1:9000/", "HTTP://[::1]:9000"),
        *("https://gateway.example.com/s3/v1", "http://minio_1:9000"),
    ],
)
def test_an_endpoint_is_a_plain_address(url):
    assert endpoint_of(Connection("x", "aws", extra={"endpoint_url": url})) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        *("s3.example.com:9000", "http://", "http://key:hunter2@host", "http://hunter2@host/x"),
        *(
            "http://h ost",
            "http://host\n",
            "http://host:port",
            "http://host:70000",
            "http://host:0",
        ),
        *("http://%2Fhunter2", "http://host/?key=hunter2", "http://host#hunter2", 9000),
    ],
    ids=str,
)
def test_an_endpoint_that_is_no_plain_address_is_refused_unseen(url):
    with pytest.raises(ConnectionNotFound, match="`endpoint_url` is no plain address") as caught:
        endpoint_of(Connection("x", "aws", extra={"endpoint_url": url}))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["http://host:1/x", "an address a@b, and s3://bucket/x"])
def test_what_is_no_secret_is_shown(text):
    assert masked(text) == text
