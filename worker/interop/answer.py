"""What both kinds of answers have in common: whose they are, who made them, and when."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from highdicom import ContributingEquipment, SOPClass
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM

from worker.interop.codes import PROCESSING_EQUIPMENT, finding_code
from worker.interop.source import copy_patient_and_study, nameless
from worker.records import Role, role_of
from worker.store.answers import Kind, Origin
from worker.store.queries import StoredScreening
from worker.uids import answer_uid, derived_uid

NOTICE = "AI, not for diagnosis"
MANUFACTURER = "Screen"
_LONGEST_LO = 64  # characters (PS3.5 6.2)
_SERIES_NUMBERS: dict[Kind, int] = {"sr": 9801, "sc": 9802}  # after whatever a modality numbers


@dataclass(frozen=True)
class Subject:
    """A screening and its film: all that an answer is made of.

    The same subject makes the same object, whenever it is made: nothing comes from the clock.
    """

    stored: StoredScreening
    origin: Origin
    source: Dataset

    @property
    def reference(self) -> Dataset:
        """The film for highdicom; `complete` adds the names that it must not see."""
        return nameless(self.source)

    @property
    def role(self) -> Role:
        """What the decision means."""
        return role_of(self.stored.record.decision, self.stored.card.labels)

    @property
    def finding(self) -> CodedConcept:
        """What was looked for."""
        return finding_code(self.stored.card)

    @property
    def probability(self) -> float | None:
        """The calibrated P(finding); `None` for refused films, and where nothing was calibrated."""
        is_told = self.is_calibrated and self.is_answered
        return self.stored.record.probability if is_told else None

    @property
    def is_calibrated(self) -> bool:
        """Whether the model's probabilities were calibrated."""
        calibration = self.stored.card.calibration
        return (calibration.slope, calibration.offset) != (1.0, 0.0)

    @property
    def is_answered(self) -> bool:
        """Whether the film was not refused."""
        return self.role is not Role.REFUSED

    @property
    def algorithm(self) -> tuple[str, str]:
        """Name and version of the model, as long as LO may be."""
        card = self.stored.card
        return long_string(card.name), long_string(card.version)

    @property
    def device_uid(self) -> str:
        """One for each model version: weights, and all that turns a film into a decision."""
        return derived_uid("device", self.origin.identity)

    def uid(self, kind: Kind) -> str:
        """SOP Instance UID of an answer."""
        return answer_uid(self.origin.sha256, self.origin.identity, kind)

    def place(self, kind: Kind) -> dict[str, Any]:
        """Where an answer stands: a series of its own in the film's study."""
        parts = (self.origin.sha256, self.origin.identity, kind)
        return {
            "series_instance_uid": derived_uid("series", *parts),
            "series_number": _SERIES_NUMBERS[kind],
            "sop_instance_uid": self.uid(kind),
            "instance_number": 1,
        }

    def equipment(self) -> dict[str, Any]:
        """What made the object; its software version is the algorithm's (IHE RAD AI Results)."""
        name, version = self.algorithm
        return {
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": name,
            "software_versions": version,
            "device_serial_number": self.stored.record.weights_sha256[:16],
        }

    def contributing_equipment(self) -> ContributingEquipment:
        """The model as a device (PS3.3 C.12.1.1.5), with the UID that highdicom does not take."""
        item = ContributingEquipment(
            purpose_of_reference=PROCESSING_EQUIPMENT,
            contribution_datetime=self.screened_at.replace(microsecond=0),
            contribution_description=f"{NOTICE}. Screen {self.origin.worker_version}",
            **self.equipment(),
        )
        item.DeviceUID = self.device_uid
        return item

    @property
    def screened_at(self) -> datetime:
        """When the film was answered, in the zone of its study, else in this machine's."""
        offset = self.source.get("TimezoneOffsetFromUTC")
        zone = None
        if offset:
            minutes = int(offset[1:3]) * 60 + int(offset[3:])
            zone = timezone(timedelta(minutes=minutes if offset[0] == "+" else -minutes))
        return self.stored.screened_at.astimezone(zone)


def complete(answer: SOPClass, subject: Subject) -> None:
    """What highdicom leaves out or takes from the clock."""
    copy_patient_and_study(subject.source, answer)
    answer.ContributingEquipmentSequence = [subject.contributing_equipment()]
    at = subject.screened_at
    day, time = DA(at.date()), TM(at.time().replace(microsecond=0))
    answer.InstanceCreationDate = answer.ContentDate = answer.SeriesDate = day
    answer.InstanceCreationTime = answer.ContentTime = answer.SeriesTime = time


def long_string(text: str) -> str:
    """A text as LO: one line, without the character that parts values."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return line.replace("\\", "/")[:_LONGEST_LO].strip() or "unnamed"
