"""What the campaigns found: each bug that was mended leaves its test here."""

import pytest

from tests.hostile.bomb import chest
from tests.hostile.films import SYNTAXES, dicom_film
from worker.errors import CorruptFile
from worker.imaging.decode import decode


@pytest.mark.parametrize(
    "tags",
    [
        {"PhotometricInterpretation": "YBR_ICT"},
        {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3},
        {"SamplesPerPixel": 3},
    ],
    ids=str,
)
def test_a_jpeg_2000_film_whose_tags_lie_about_samples_is_corrupt(tags):
    """GDCM ended its process: three strikes and three dead decoders for one wrong tag."""
    film = dicom_film(chest(), SYNTAXES["j2k"], **tags)
    with pytest.raises(CorruptFile, match="samples per pixel"):
        decode(film)
