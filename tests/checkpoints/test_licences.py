"""Nobody's weights are passed on against their licence: the table, the header's note, and what each text means."""

from __future__ import annotations

import pytest

from hear_models.checkpoints.licences import (
    ALLOWED,
    FORBIDDEN,
    NOT_STATED,
    TERMS,
    licence_in,
    licence_note,
    read_licence,
)
from hear_models.checkpoints.manifest import read_manifests
from hear_models.errors import CheckpointError

NTT = "NTT evaluation licence: internal evaluation only, no redistribution"


@pytest.mark.parametrize(
    ("text", "sharing", "hub_id"),
    [
        ("Apache-2.0", ALLOWED, "apache-2.0"),
        ("apache 2.0", ALLOWED, "apache-2.0"),
        ("MIT License", ALLOWED, "mit"),
        ("CC BY 4.0 (the record's)", ALLOWED, "cc-by-4.0"),
        ("cc_by_nc_4.0", ALLOWED, "cc-by-nc-4.0"),
        ("CC-BY-ND-4.0", FORBIDDEN, "cc-by-nd-4.0"),
        (NTT, FORBIDDEN, "other"),
        ("NTT Evaluation License, whatever", FORBIDDEN, "other"),
        ("not stated", NOT_STATED, "unknown"),
        ("Not stated: MIT repository", NOT_STATED, "unknown"),
        ("none: there are no weights", NOT_STATED, "unknown"),
        ("", NOT_STATED, "unknown"),
        ("other", NOT_STATED, "other"),
        ("Our University Licence 2", NOT_STATED, "other"),
    ],
)
def test_a_licence_is_understood_as_people_write_it(text, sharing, hub_id):
    licence = read_licence(text)
    assert (licence.sharing, licence.hub_id) == (sharing, hub_id)


def test_a_licence_that_nobody_here_has_read_keeps_its_name():
    assert read_licence("Our University Licence 2").name == "Our University Licence 2"


def test_no_two_rows_of_the_table_answer_to_the_same_text():
    for licence in TERMS:
        assert read_licence(licence.name) is licence


def test_every_manifest_has_a_licence_that_is_understood():
    for name, manifest in read_manifests().items():
        assert read_licence(manifest.licence) in TERMS or manifest.licence == "no weights", name


def test_a_family_marks_its_files_by_the_name_alone():
    note = licence_note("NTT evaluation licence")
    assert note["licence"]["sharing"] == FORBIDDEN
    found = licence_in({"step": 1, **note})
    assert found is not None and (found.name, found.sharing) == ("NTT evaluation licence", FORBIDDEN)
    assert "no redistribution" in (found.terms or "")
    assert licence_in({"step": 1}) is None


@pytest.mark.parametrize("name", ["NTT evaluation licence", "A licence of later years"])
def test_neither_an_edited_note_nor_an_old_table_lets_a_copy_out(name):
    found = licence_in(licence_note(name, sharing=ALLOWED if name.startswith("NTT") else FORBIDDEN))
    assert found is not None and found.sharing == FORBIDDEN


def test_a_note_may_allow_what_the_table_does_not_know():
    found = licence_in(licence_note("Our University Licence 2", ALLOWED, "https://example.org/licence"))
    assert found is not None and found.sharing == ALLOWED and found.terms == "https://example.org/licence"


@pytest.mark.parametrize("note", [7, {}, {"name": "MIT"}, {"name": 1, "sharing": ALLOWED}, {"name": "x", "sharing": 1}])
def test_a_note_that_cannot_be_understood_is_an_error_and_not_a_permission(note):
    with pytest.raises(CheckpointError, match="cannot be understood"):
        licence_in({"licence": note})


def test_a_plain_name_in_the_header_is_read_too():
    found = licence_in({"licence": "CC-BY-4.0"})
    assert found is not None and found.sharing == ALLOWED
