"""Compares Millrace with what users would pick instead: ``make bench``."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
