"""A stand-in for the Google Sheets API, on loopback.

``sheets-standin`` runs it, ``GoogleSheetsServer`` starts it from a program.
"""

from sheets_standin.admin import SheetsAdmin, TabSpec, TabState
from sheets_standin.endpoint import SheetsEndpoint
from sheets_standin.errors import StandinError
from sheets_standin.faults import Fault
from sheets_standin.server import GoogleSheetsServer

__all__ = [
    "Fault",
    "GoogleSheetsServer",
    "SheetsAdmin",
    "SheetsEndpoint",
    "StandinError",
    "TabSpec",
    "TabState",
]
