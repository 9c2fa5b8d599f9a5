"""Stored values become grey levels by the formulas of the standard, worked out here by hand."""

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.imaging import peers
from tests.imaging.conftest import make_dataset, to_bytes
from worker.errors import CorruptFile
from worker.imaging import syntaxes as s
from worker.imaging.decode import decode

SIDE = 128


@pytest.fixture
def ramp():
    """(128, 128) of 0 … 4095, every row the same."""
    return np.tile(np.linspace(0, 4095, SIDE).round().astype(np.uint16), (SIDE, 1))


def flat(values, dtype=np.uint16):
    """(128, 128): each of the values fills as many columns."""
    columns = np.repeat(np.array(values, dtype), SIDE // len(values))
    return np.tile(columns, (SIDE, 1))


def levels(film, count):
    """What the columns of `flat` are shown as."""
    return [float(film.pixels[0, at * SIDE // count]) for at in range(count)]


# Windows: PS3.3 C.11.2.1.2 and C.11.2.1.3, with y from 0 to 1


@pytest.mark.parametrize(
    ("function", "centre", "width", "stored", "shown"),
    [
        # LINEAR: 0 up to c - 0.5 - (w-1)/2, 1 beyond c - 0.5 + (w-1)/2, between them
        # (x - (c - 0.5)) / (w-1) + 0.5. The standard's own example: c 2048, w 4096.
        ("LINEAR", 2048, 4096, [0, 1, 2047, 4095], [0, 1 / 4095, 2047 / 4095, 1]),
        ("LINEAR", 2048, 1, [2047, 2048, 0, 4095], [0, 1, 0, 1]),
        ("LINEAR", 2047.5, 1, [2046, 2047, 2048, 0], [0, 0, 1, 0]),
        ("LINEAR", 100, 2, [98, 99, 100, 101], [0, 0, 1, 1]),
        ("LINEAR", 100, 5, [97, 98, 99, 102], [0, 0.125, 0.375, 1]),
        ("", 100, 5, [97, 98, 99, 102], [0, 0.125, 0.375, 1]),
        # LINEAR_EXACT: (x - c) / w + 0.5
        ("LINEAR_EXACT", 2048, 4096, [0, 1024, 2048, 4095], [0, 0.25, 0.5, 4095 / 4096]),
        ("LINEAR_EXACT", 100, 0.5, [99, 100, 101, 102], [0, 0.5, 1, 1]),
        # SIGMOID: 1 / (1 + exp(-4 (x - c) / w))
        ("SIGMOID", 2048, 4096, [0, 1024, 2048, 3072], [0.1192029, 0.2689414, 0.5, 0.7310586]),
    ],
)
def test_windows_follow_their_formula(dicom, function, centre, width, stored, shown):
    tags = {"WindowCenter": centre, "WindowWidth": width, "VOILUTFunction": function}
    film = decode(dicom(flat(stored), **tags))
    assert levels(film, 4) == pytest.approx(shown, abs=1e-6)


def test_the_window_acts_on_what_the_rescale_gives(dicom):
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 0, "WindowWidth": 401}
    film = decode(dicom(flat([400, 500, 550, 600]), **tags))  # -200, 0, 100, 200 by the rescale
    assert levels(film, 4) == pytest.approx([0.00125, 0.50125, 0.75125, 1], abs=1e-6)


# Look-up tables: PS3.3 C.11.1, C.11.2.1.1 and C.11.4


def lut(data, first=0, bits=16, vr="US", order="<"):
    """A LUT item; entries of OW are packed as bytes of the file's order."""
    item = Dataset()
    descriptor_vr = "SS" if first < 0 else "US"
    item.add(DataElement("LUTDescriptor", descriptor_vr, [len(data), first, bits]))
    packed = np.array(data, f"{order}u2").tobytes() if vr == "OW" else list(data)
    item.add(DataElement("LUTData", vr, packed))
    return Sequence([item])


def in_big_endian(ds):
    ds.file_meta.TransferSyntaxUID = s.EXPLICIT_BIG
    ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    return to_bytes(ds)


@pytest.mark.parametrize("vr", ["US", "OW"])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_modality_lut_maps_stored_values(dicom, vr, bits):
    table = [0, 100, 300, 1000]
    film = decode(
        dicom(
            flat([0, 11, 12, 4000]),  # below the first: the first; beyond the last: the last
            ModalityLUTSequence=lut(table, first=10, bits=bits, vr=vr),
            WindowCenter=500,
            WindowWidth=1000,
            VOILUTFunction="LINEAR_EXACT",
        )
    )
    assert levels(film, 4) == pytest.approx([0, 0.1, 0.3, 1], abs=1e-6)


def test_a_modality_lut_may_begin_below_zero(dicom):
    film = decode(
        dicom(
            flat([-2, -1, 0, 1], np.int16),
            ModalityLUTSequence=lut([10, 20, 30, 40], first=-2),
            **{"WindowCenter": 25, "WindowWidth": 50, "VOILUTFunction": "LINEAR_EXACT"},
        )
    )
    assert levels(film, 4) == pytest.approx([0.2, 0.4, 0.6, 0.8], abs=1e-6)


def test_a_modality_lut_without_entries_is_corrupt(dicom):
    with pytest.raises(CorruptFile, match="modality LUT"):
        decode(dicom(ModalityLUTSequence=Sequence([Dataset()])))


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("vr", ["US", "OW"])
def test_luts_are_read_in_the_byte_order_of_their_file(ramp, keyword, vr):
    table = [(value * 7) % 4096 for value in range(4096)]
    shown = [
        decode(
            written(make_dataset(ramp, **{keyword: lut(table, bits=12, vr=vr, order=order)}))
        ).pixels
        for written, order in ((to_bytes, "<"), (in_big_endian, ">"))
    ]
    np.testing.assert_allclose(shown[0], (ramp.astype(int) * 7 % 4096) / 4095, atol=1e-6)
    np.testing.assert_array_equal(*shown)


def test_a_voi_lut_counts_before_a_window(dicom):
    table = lut([0, 1023, 511, 256], first=100, bits=10)
    film = decode(dicom(flat([0, 101, 102, 103]), VOILUTSequence=table))
    assert levels(film, 4) == pytest.approx([0, 1, 511 / 1023, 256 / 1023], abs=1e-6)


def test_a_count_of_zero_means_65536_entries(dicom):
    table = lut([0] * 65_536)
    table[0].LUTDescriptor = [0, 0, 16]
    table[0]["LUTData"].value = [65_535 - value for value in range(65_536)]
    film = decode(
        dicom(flat([0, 13107, 52428, 65535]), BitsStored=16, HighBit=15, VOILUTSequence=table)
    )
    assert levels(film, 4) == pytest.approx([1, 0.8, 0.2, 0], abs=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_presentation_lut_gives_p_values_that_are_not_inverted(dicom, ramp, photometric):
    falling = lut([4095, 2000, 0], bits=12)  # of 3 entries, over the whole grey range
    film = decode(
        dicom(ramp, PresentationLUTSequence=falling, PhotometricInterpretation=photometric)
    )
    entries = np.rint(ramp[0] / 4095 * 2).astype(int)
    np.testing.assert_allclose(film.pixels[0], np.array([1, 2000 / 4095, 0])[entries], atol=1e-6)
    noted = "a presentation LUT decides what is bright" in film.notes
    assert noted is (photometric == "MONOCHROME1")


def test_identity_does_not_unsay_monochrome1_and_is_noted(dicom, ramp):
    tags = {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"}
    film = decode(dicom(ramp, **tags))
    np.testing.assert_allclose(film.pixels, 1 - ramp / 4095, atol=1e-6)
    assert any("IDENTITY" in note for note in film.notes)


# Padding: PS3.3 C.7.5.1.1.2


@pytest.mark.parametrize(
    ("photometric", "value", "limit", "black"),
    [
        ("MONOCHROME2", 0, None, [0]),
        ("MONOCHROME2", 0, 1000, [0, 1]),  # value up to limit
        ("MONOCHROME1", 4095, None, [3]),
        ("MONOCHROME1", 4095, 3000, [2, 3]),  # value down to limit
        ("MONOCHROME1", 0, 1000, [0, 1]),
    ],
)
def test_padding_is_black_from_its_value_to_its_limit(dicom, photometric, value, limit, black):
    tags = {"PixelPaddingValue": value, "PhotometricInterpretation": photometric}
    if limit is not None:
        tags["PixelPaddingRangeLimit"] = limit
    film = decode(dicom(flat([0, 1000, 3000, 4095]), **tags))
    shown = np.array([0, 1000 / 4095, 3000 / 4095, 1])
    shown = 1 - shown if photometric == "MONOCHROME1" else shown
    shown[black] = 0
    assert levels(film, 4) == pytest.approx(shown, abs=1e-6)


def test_padding_of_signed_films_may_be_written_as_unsigned(dicom):
    stored = flat([-2000, 0, 500, 1000], np.int16)
    tags = {"BitsStored": 16, "HighBit": 15, "WindowCenter": 0, "WindowWidth": 4001}
    for padding, vr in ((-2000, "SS"), (63536, "US")):
        ds = make_dataset(stored, **tags)
        ds.add(DataElement("PixelPaddingValue", vr, padding))
        film = decode(to_bytes(ds))
        assert levels(film, 4) == pytest.approx([0, 0.500125, 0.625125, 0.750125], abs=1e-6)


# Where the bits lie: PS3.5 8.1.1


@pytest.mark.parametrize(("high", "beside"), [(11, 0xF000), (13, 0xC003), (15, 0x000F)])
def test_only_stored_bits_count(dicom, ramp, high, beside):
    film = decode(dicom(ramp << (high - 11) | np.uint16(beside), HighBit=high))
    np.testing.assert_allclose(film.pixels, ramp / 4095, atol=1e-6)


@pytest.mark.parametrize("high", [11, 15])
def test_the_sign_is_the_highest_stored_bit(dicom, high):
    stored = np.array([-2048, -1, 0, 2047], np.int16)
    bits = (stored.astype(np.uint16) & 0x0FFF) << (high - 11)
    film = decode(dicom(flat(bits).view(np.int16), HighBit=high, WindowCenter=0))
    assert levels(film, 4) == pytest.approx([0, 2047 / 4095, 2048 / 4095, 1], abs=1e-6)


def test_a_high_bit_outside_of_the_cell_is_corrupt(dicom):
    with pytest.raises(CorruptFile, match="HighBit"):
        decode(dicom(HighBit=16))


# Colour: PS3.3 C.7.6.3.1.2, luminance by ITU-R BT.601

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 100, 50]], np.uint8)
LUMINANCE = [0.299, 0.587, 0.114, (0.299 * 200 + 0.587 * 100 + 0.114 * 50) / 255]


def _picture(samples):
    """(128, 128, 3): the four colours side by side."""
    return np.tile(np.repeat(samples, SIDE // 4, axis=0), (SIDE, 1, 1)).astype(np.uint8)


def _ybr():
    red, green, blue = COLOURS.astype(float).T
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    cb, cr = 128 + (blue - luma) * 0.5 / 0.886, 128 + (red - luma) * 0.5 / 0.701
    return np.stack([luma, cb, cr], axis=1).round().clip(0, 255)


def _colour(dicom, pixels, photometric, planar, data=None):
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": photometric}
    tags |= {"PlanarConfiguration": planar, "BitsStored": 8, "HighBit": 7}
    return dicom(pixels, **tags, PixelData=(pixels if data is None else data).tobytes())


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colour_films_are_shown_by_their_luminance(dicom, photometric, planar):
    pixels = _picture(COLOURS if photometric == "RGB" else _ybr())
    data = pixels.transpose(2, 0, 1) if planar else pixels
    film = decode(_colour(dicom, pixels, photometric, planar, data))
    assert levels(film, 4) == pytest.approx(LUMINANCE, abs=0.005)


def test_subsampled_colours_are_shown_by_their_luminance(dicom):
    pixels = _picture(_ybr())
    pairs = np.stack([pixels[:, 0::2, 0], pixels[:, 1::2, 0], pixels[:, ::2, 1], pixels[:, ::2, 2]])
    film = _colour(dicom, pixels, "YBR_FULL_422", 0, pairs.transpose(1, 2, 0))
    assert levels(decode(film), 4) == pytest.approx(LUMINANCE, abs=0.005)


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_are_shown_by_their_luminance(dicom, bits):
    tags = {"PhotometricInterpretation": "PALETTE COLOR", "BitsStored": 8, "HighBit": 7}
    for channel, name in enumerate(("Red", "Green", "Blue")):
        entries = COLOURS[:, channel]
        table = entries if bits == 8 else (entries.astype(np.uint16) * 257).astype("<u2")
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, bits]
        tags[f"{name}PaletteColorLookupTableData"] = table.tobytes()
    film = decode(dicom(flat([0, 1, 2, 3], np.uint8), **tags))
    assert levels(film, 4) == pytest.approx(LUMINANCE, abs=1e-3)


# Faults that viewers live with


def test_an_odd_number_of_pixels_needs_no_pad_byte(dicom):
    stored = (np.arange(127 * 129) % 256).astype(np.uint8).reshape(127, 129)
    for data in (stored.tobytes() + b"\0", stored.tobytes()):
        ds = make_dataset(stored, BitsStored=8, HighBit=7, WindowCenter=128, WindowWidth=256)
        ds.PixelData = data
        film = decode(to_bytes(ds))
        np.testing.assert_allclose(film.pixels, stored / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("WindowCenter", "LO", "2048"),
        ("WindowWidth", "LO", " 4096 "),
        ("RescaleSlope", "LO", "1"),
        ("PatientAge", "LO", "006Y"),
        ("Rows", "UL", SIDE),
        ("PixelPaddingValue", "SS", 5000),
    ],
)
def test_a_wrong_vr_is_read_all_the_same(ramp, keyword, vr, value):
    ds = make_dataset(ramp, RescaleIntercept=0, RescaleSlope=1)
    ds.add(DataElement(pydicom.datadict.tag_for_keyword(keyword), vr, value))
    film = decode(to_bytes(ds))
    np.testing.assert_allclose(film.pixels, ramp / 4095, atol=1e-6)


@pytest.mark.parametrize("syntax", peers.WRITERS, ids=peers.syntax_name)
def test_no_preamble_is_read_in_every_syntax(dicom, ramp, tmp_path, syntax):
    whole = peers.rewritten(dicom(ramp), tmp_path, peers.WRITERS[syntax])
    film = decode(whole[132:])
    np.testing.assert_array_equal(film.pixels, decode(whole).pixels)
    assert film.notes == ("no DICOM preamble",)
    assert film.tags.transfer_syntax_uid == syntax


@pytest.mark.parametrize("syntax", [s.IMPLICIT_LITTLE, s.EXPLICIT_LITTLE, s.EXPLICIT_BIG])
def test_a_bare_data_set_is_read_in_what_its_first_element_says(dicom, ramp, tmp_path, syntax):
    whole = peers.rewritten(dicom(ramp), tmp_path, peers.WRITERS[syntax])
    start = 144 + int.from_bytes(whole[140:144], "little")  # PS3.10 7.1: the group's length
    film = decode(whole[start:])
    np.testing.assert_array_equal(film.pixels, decode(whole).pixels)
    assert film.tags.transfer_syntax_uid == syntax
    assert "no transfer syntax" in film.notes[0]
