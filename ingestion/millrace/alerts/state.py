"""What was told, kept at the landing: a watcher that is started again does not repeat it."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from millrace.landing.landing import Landing

NAME = "_alerts/told.json"
FAILED = "failed "
"""Begins the keys of failed runs; the DAG's id follows."""


class Told(BaseModel):
    """Something that was found.

    Attributes:
        heading: It in a few words.
        since: Since when.
        is_sent: Whether the message of it has arrived.
    """

    model_config = ConfigDict(frozen=True)

    heading: str
    since: datetime | None
    is_sent: bool


class State(BaseModel):
    """What a watcher has told.

    Attributes:
        looked: Up to when it has looked at runs that ended.
        told: What was found and is not over, by its key.
        changes: How the columns of each table's last load differed, by the table's key.
        loads_told: Up to which load it has told what loads changed in columns.
    """

    looked: datetime | None = None
    told: dict[str, Told] = {}
    changes: dict[str, list[str]] = {}
    loads_told: datetime | None = None

    def is_told(self, key: str) -> bool:
        """Whether people were told of something that is not over."""
        return key in self.told and self.told[key].is_sent


class Memory:
    """Keeps the state at the landing.

    Args:
        landing: The landing.
    """

    def __init__(self, landing: Landing) -> None:
        self._landing = landing

    def read(self) -> State:
        """What was told; nothing, if nothing was kept or it is damaged.

        Raises:
            LandingError: the landing cannot be read.
        """
        kept = self._landing.read_note(NAME)
        try:
            return State.model_validate_json(kept) if kept else State()
        except ValidationError:
            return State()

    def keep(self, state: State) -> None:
        """Keep it.

        Raises:
            LandingError: the landing cannot be written.
        """
        self._landing.write_note(NAME, state.model_dump_json(indent=1).encode())
