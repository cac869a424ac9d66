from __future__ import annotations

import unicodedata

import pytest

from millrace.google_sheets.headings import column_name


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("Target NPS (%)", "target_nps"),
        ("  owner\n", "owner"),
        ("2026", "2026"),
        ("a__b_", "a__b"),
        ("목표", "목표"),
        ("हिन्दी", "हिन्दी"),
        ("%", "percent_sign"),
        ("№", "numero_sign"),
        ("№ 1", "1"),
        ("🎉", "party_popper"),
        ("❤️", "heavy_black_heart"),
        ("👨\u200d👩", "man_woman"),
        ("--", "hyphen_minus_hyphen_minus"),
        ("_", "low_line"),
        (" \u200b\n", ""),
        ("", ""),
    ],
)
def test_a_heading_becomes_a_columns_name(heading: str, name: str):
    assert column_name(heading) == name
    assert column_name(name) == name


@pytest.mark.parametrize("heading", ["Café", "Ångström", "목표", "İstanbul"])
def test_composed_and_decomposed_accents_are_the_same(heading: str):
    composed = unicodedata.normalize("NFC", heading)
    decomposed = unicodedata.normalize("NFD", heading)
    assert composed != decomposed
    assert column_name(composed) == column_name(decomposed)
