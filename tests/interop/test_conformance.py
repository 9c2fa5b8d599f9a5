"""docs/DICOM.md says what the code does."""

import importlib.util

import pytest
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from worker.imaging import dicomtags
from worker.interop.conformance import with_tables
from worker.interop.contexts import (
    ANSWERS,
    BY_PREFERENCE,
    FILMS,
    IMPLEMENTATION_UID,
    IMPLEMENTATION_VERSION,
    JPEG_EXTENDED,
    film_syntaxes,
)


def test_the_tables_are_those_of_the_code(repository):
    document = (repository / "docs" / "DICOM.md").read_text(encoding="utf-8")
    assert document == with_tables(document), (
        "run: python -m worker.interop.conformance docs/DICOM.md"
    )
    assert document.count("<!-- table: ") == 5


@pytest.mark.parametrize("uid", BY_PREFERENCE)
def test_what_is_offered_can_be_decoded(uid):
    assert get_decoder(UID(uid)).is_available


def test_everything_that_can_be_decoded_is_offered():
    from pydicom.uid import AllTransferSyntaxes

    def decodes(uid):
        try:
            return get_decoder(uid).is_available
        except NotImplementedError:
            return False

    assert {str(uid) for uid in AllTransferSyntaxes if decodes(uid)} == set(BY_PREFERENCE)


def test_jpeg_extended_needs_the_gpl_decoder():
    there = importlib.util.find_spec("libjpeg") is not None
    assert (JPEG_EXTENDED in film_syntaxes()) == there


def test_films_are_classes_that_the_gate_lets_pass():
    assert set(FILMS) <= set(dicomtags.RADIOGRAPH_CLASSES)


def test_our_identifiers_are_valid():
    assert UID(IMPLEMENTATION_UID).is_valid
    assert len(IMPLEMENTATION_VERSION) <= 16
    assert all(UID(uid).is_valid and not UID(uid).is_private for uid in (*FILMS, *ANSWERS))
