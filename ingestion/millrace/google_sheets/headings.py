"""A sheet's headings as names of columns."""

from __future__ import annotations

import unicodedata


def column_name(heading: str) -> str:
    """A heading as a column's name: "Target NPS (%)" is ``target_nps``.

    Composed and decomposed accents are the same. A heading without letters and digits gets the
    Unicode names of its signs: "%" is ``percent_sign``. Only a blank heading has no name.
    """
    text = unicodedata.normalize("NFC", heading.strip().lower())
    kept = ""
    for sign in text:
        # A vowel sign or an accent that has no composed form belongs to the letter before it.
        is_mark = unicodedata.category(sign).startswith("M") and kept[-1:].strip()
        kept += sign if sign.isalnum() or sign == "_" or is_mark else " "
    return "_".join(kept.split()).strip("_") or _spelled(text)


def _spelled(signs: str) -> str:
    """The Unicode names of these signs, without those that only change how others look."""
    shown = [sign for sign in signs if unicodedata.category(sign)[0] not in "MCZ"]
    words = " ".join(unicodedata.name(sign, "sign") for sign in shown)
    return words.lower().replace("-", " ").replace(" ", "_")


def composed(name: str) -> str:
    """A name with each accent in its composed form, as it is compared."""
    return unicodedata.normalize("NFC", name)


def checked_labels(labels: dict[str, str]) -> dict[str, str]:
    """Headings by column name, as they are declared.

    Raises:
        ValueError: one is blank.
    """
    for name, label in labels.items():
        if not column_name(label):
            raise ValueError(f"{name}: a label is not blank")
    return {composed(name): label for name, label in labels.items()}
