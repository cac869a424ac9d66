"""Personal data: hashed, masked or left out before anything is landed."""

from millrace.pii.looks import watched
from millrace.pii.protection import MASK, protect, protected_schema, salt_id

__all__ = ["MASK", "protect", "protected_schema", "salt_id", "watched"]
