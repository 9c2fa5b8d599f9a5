"""Make the answers of one film as DICOM files. Importing highdicom takes a second."""

from collections.abc import Callable
from io import BytesIO

from highdicom import SOPClass

from worker.imaging.attributes import Attributes
from worker.interop.answer import Subject
from worker.interop.sc import secondary_capture
from worker.interop.source import source_dataset
from worker.interop.sr import structured_report
from worker.store.answers import Kind, Origin
from worker.store.queries import StoredScreening

_SHAPED: dict[Kind, Callable[[Subject, Callable[[], bytes]], SOPClass]] = {
    "sr": lambda subject, _picture: structured_report(subject),
    "sc": lambda subject, picture: secondary_capture(subject, picture()),
}


def subject_of(stored: StoredScreening, origin: Origin, found: Attributes) -> Subject:
    """Put together what answers are made of. Raises Impossible for a film without identity."""
    return Subject(stored, origin, source_dataset(found))


def encoded(subject: Subject, kind: Kind, picture: Callable[[], bytes]) -> tuple[str, bytes]:
    """SOP Instance UID and file of one answer. `picture` gives the grey JPEG of the report."""
    answer = _SHAPED[kind](subject, picture)
    written = BytesIO()
    answer.save_as(written, enforce_file_format=True)
    return str(answer.SOPInstanceUID), written.getvalue()
