"""The answer as a Secondary Capture: what a viewer shows that knows no structured reports."""

from highdicom import PhotometricInterpretationValues
from highdicom.sc import SCImage
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from worker.interop.answer import NOTICE, Subject, complete, long_string
from worker.interop.codes import SOURCE_IMAGE
from worker.interop.picture import draw

_UNPAIRED = frozenset(  # parts of PS3.16 annex L that radiographs show
    (
        *("ABDOMEN", "BACK", "CHEST", "CHESTABDOMEN", "COCCYX", "CSPINE", "CTSPINE", "FACE"),
        *("HEAD", "JAW", "LSPINE", "LSSPINE", "MAXILLA", "NECK", "NECKCHEST", "NOSE", "PELVIS"),
        *("SKULL", "SPINE", "SSPINE", "STERNUM", "TLSPINE", "TSPINE", "WHOLEBODY"),
    )
)
_JPEG = "ISO_10918_1"  # PS3.3 C.7.6.1.1.5.1


def secondary_capture(subject: Subject, picture: bytes) -> SCImage:
    """Film and heat map as one picture, uncompressed: every archive takes that.

    `picture` is the grey JPEG of the film's report. Raises ValueError if it cannot be decoded.
    """
    answer = SCImage.from_ref_dataset(
        ref_dataset=subject.reference,
        pixel_array=draw(subject, picture),
        photometric_interpretation=PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # highdicom wants one; the film's own follows below
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=long_string(f"{NOTICE}: {subject.algorithm[0]}"),
        **subject.place("sc"),
        **subject.equipment(),
    )
    complete(answer, subject)
    answer.ConversionType = "WSD"
    answer.DateOfSecondaryCapture = answer.ContentDate
    answer.TimeOfSecondaryCapture = answer.ContentTime
    answer.DerivationDescription = (
        f"{NOTICE}. Reduced film with the heat map of {subject.algorithm[0]} laid over, and the "
        "decision in words; not to be measured on"
    )
    answer.SourceImageSequence = [_reference(subject.source)]
    _take_over(subject.source, answer)
    answer.LossyImageCompression = "01"  # once lossy, always lossy (PS3.3 C.7.6.1.1.5)
    answer.LossyImageCompressionMethod = _JPEG
    answer.LossyImageCompressionRatio = f"{_ratio(subject, picture):.1f}"
    return answer


def _take_over(source: Dataset, answer: SCImage) -> None:
    """What the film says of its own picture holds for ours too, and no more than that.

    BurnedInAnnotation asks whether the pixels name the patient (PS3.3 C.7.6.1.1.1, Table C.7-9):
    our words do not, the film's may, and where it does not say, nobody knows.
    """
    answer.PatientOrientation = source.get("PatientOrientation")
    for keyword in ("BodyPartExamined", "BurnedInAnnotation"):
        if keyword in source:
            setattr(answer, keyword, source[keyword].value)
    side = source.get("ImageLaterality") or source.get("Laterality")
    if side:
        answer.ImageLaterality = side
    elif source.get("BodyPartExamined") not in _UNPAIRED:
        answer.Laterality = ""  # type 2C: of a part that may be paired (PS3.3 C.7.3.1)


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [SOURCE_IMAGE]
    return item


def _ratio(subject: Subject, picture: bytes) -> float:
    """How much smaller the film's grey JPEG is than its pixels."""
    rows, columns = subject.stored.rows, subject.stored.columns
    return max(1.0, rows * columns / len(picture))
