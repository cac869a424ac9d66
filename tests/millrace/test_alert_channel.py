"""Messages arrive by e-mail and by HTTP, as plain text, or it is said that they do not."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from millrace.alerts.channel import AppriseChannel
from millrace.alerts.finding import Cause, Finding
from millrace.alerts.messages import told, told_again_well
from millrace.connections import Connection
from millrace.errors import AlertNotSent, ConnectionNotFound
from redshift_standin.ports import free_port
from tests.sinks import http_sink, mail_sink

SEVEN = datetime(2026, 11, 26, 7, tzinfo=UTC)
LATE = Finding(
    key="late mysql.nps",
    heading="mysql.nps is late: its DAG is paused",
    what="mysql.nps was expected by 07:00 UTC. <b>It</b> is loaded up to & until yesterday.",
    cause=Cause(
        "The DAG ingest__mysql__nps is paused.\nSomebody did that.",
        "Switch it on: airflow dags unpause ingest__mysql__nps",
        "https://airflow.example.com/dags/ingest__mysql__nps",
        "its DAG is paused",
    ),
    since=SEVEN,
    owner="Data team (data@example.com)",
    holds_up=["nps_summary_sheet", *[f"mart_{number}" for number in range(9)]],
)
TEXT = """\
What      mysql.nps was expected by 07:00 UTC. <b>It</b> is loaded up to & until yesterday.
Why       The DAG ingest__mysql__nps is paused.
          Somebody did that.
Since     2026-11-26 07:00 UTC
Owner     Data team (data@example.com)
Holds up  nps_summary_sheet, mart_0, mart_1, mart_2, mart_3, mart_4, mart_5, mart_6 and 2 more
Way out   Switch it on: airflow dags unpause ingest__mysql__nps
See       https://airflow.example.com/dags/ingest__mysql__nps"""
SECRET = "s3cret"


def channel(*urls: str) -> AppriseChannel:
    config = [{"path": url} for url in urls]
    return AppriseChannel(Connection("alerts", "apprise", extra={"config": config}))


def test_a_message_arrives_by_mail_and_by_http_as_it_was_written() -> None:
    with http_sink() as web, mail_sink(free_port(0)) as mail:
        to_mail = f"mailto://{web.url.split('/')[2].split(':')[0]}:{mail.port}?"
        to_mail += "from=millrace@example.com&to=data@example.com&mode=insecure&format=text"
        places = channel(web.url, to_mail)
        places.send(told("nps", LATE))
        places.send(told_again_well("nps", LATE.heading, SEVEN, SEVEN + timedelta(minutes=130)))
    titles = [
        "[nps] mysql.nps is late: its DAG is paused",
        "[nps] Well again: mysql.nps is late: its DAG is paused",
    ]
    bodies = [TEXT, "This is over since 2026-11-26 09:10 UTC. It lasted 2 h 10 min."]
    assert web.titles == titles
    assert [message["message"] for message in web.received] == bodies
    assert [message["type"] for message in web.received] == ["failure", "success"]
    assert [message["subject"] for message in mail.received] == titles
    assert [message["to"] for message in mail.received] == ["data@example.com"] * 2
    for message, body in zip(mail.received, bodies, strict=True):
        plain = message.get_body(("plain",))
        assert plain is not None
        assert plain.get_content().replace("\r\n", "\n").strip() == body


def test_a_message_that_does_not_arrive_everywhere_is_an_error_without_a_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with http_sink() as works, http_sink() as fails:
        fails.status = 500
        broken = fails.url.replace("json://", f"json://user:{SECRET}@")
        with pytest.raises(AlertNotSent, match="did not arrive by JSON") as caught:
            channel(broken, works.url).send(told("nps", LATE))
    assert len(works.received) == 1
    assert SECRET not in f"{caught.value}{caplog.text}"


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({}, "names no place to send to"),
        ({"config": "not JSON"}, "names no place to send to"),
        ({"config": [{"tag": "alerts"}]}, "names no place to send to"),
        ({"config": f'[{{"path": "nothing://{SECRET}"}}]'}, "does not understand the URL number 1"),
    ],
)
def test_a_connection_that_names_no_place_is_refused_without_its_secrets(
    extra: dict[str, object], says: str
) -> None:
    with pytest.raises(ConnectionNotFound, match=says) as caught:
        AppriseChannel(Connection("alerts", "apprise", extra=extra))
    assert SECRET not in str(caught.value)
