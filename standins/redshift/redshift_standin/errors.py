"""The failure of the stand-in itself; the errors of statements are in ``wire``."""

from __future__ import annotations


class StandinError(Exception):
    """A failure the user can act on; the message says what happened and what to do."""
