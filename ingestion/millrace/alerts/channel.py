"""Sends messages by Apprise: to Slack, by e-mail, to any URL.

The connection has the shape that Airflow's own Apprise provider gives it, so both can use one:
``{"conn_type": "apprise", "extra": {"config": [{"path": "mailto://…"}, {"path": "slack://…"}]}}``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from millrace.alerts.messages import Message
from millrace.catalog.kinds import needing
from millrace.connections import Connection
from millrace.errors import AlertNotSent, ConnectionNotFound

log = logging.getLogger(__name__)


class Channel(Protocol):
    """Where messages go."""

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            AlertNotSent: it did not arrive everywhere.
        """


class AppriseChannel:
    """All places that a connection names.

    Args:
        connection: With Apprise's URLs in its extra ``config``.

    Raises:
        ConnectionNotFound: there is none, or Apprise does not understand one.
        NotInstalled: Apprise is missing.
    """

    def __init__(self, connection: Connection) -> None:
        with needing("millrace[alerts]", "alerts"):
            from apprise import Apprise, NotifyFormat, NotifyType

        # Apprise logs the URLs that it cannot send to, with their secrets.
        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        self._name = connection.conn_id
        self._format = NotifyFormat.TEXT
        self._failure, self._success = NotifyType.FAILURE, NotifyType.SUCCESS
        self._places = []
        for number, url in enumerate(_urls(connection), start=1):
            place = Apprise()
            if not place.add(url):
                raise ConnectionNotFound(
                    f"Apprise does not understand the URL number {number} of the connection "
                    f"'{connection.conn_id}'.",
                    fix="Correct it: https://appriseit.com/services/ has each service's form, and "
                    "special characters in a password have to be percent-encoded.",
                )
            self._places.append(place)

    def send(self, message: Message) -> None:
        """Send a message to all places; see ``Channel.send``."""
        kind = self._success if message.is_good_news else self._failure
        failed = [
            place[0].service_name
            for place in self._places
            if not place.notify(
                title=message.title, body=message.body, notify_type=kind, body_format=self._format
            )
        ]
        if failed:
            raise AlertNotSent(
                f"A message did not arrive by {', '.join(map(str, failed))}: {message.title}",
                fix=f"Check the URLs of the connection '{self._name}', and whether this machine "
                "reaches them.",
            )


def _urls(connection: Connection) -> Sequence[str]:
    config: Any = connection.extra.get("config")
    if isinstance(config, str):
        with suppress(ValueError):
            config = json.loads(config)
    entries = [config] if isinstance(config, Mapping) else config
    urls: Any = [entry.get("path") for entry in entries] if _are_mappings(entries) else []
    if not urls or not all(isinstance(url, str) and url for url in urls):
        raise ConnectionNotFound(
            f"The connection '{connection.conn_id}' names no place to send to.",
            fix='Write its extra as {"config": [{"path": "mailto://…"}, {"path": "slack://…"}]}.',
        )
    return list(map(str, urls))


def _are_mappings(entries: Any) -> bool:
    return isinstance(entries, list) and all(isinstance(entry, Mapping) for entry in entries)
