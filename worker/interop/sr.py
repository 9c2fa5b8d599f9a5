"""The answer as a Comprehensive 3D SR: TID 1500 (PS3.16), as IHE RAD AI Results describes it."""

from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.sr.codedict import codes

from worker.interop.answer import MANUFACTURER, NOTICE, Subject, complete, long_string
from worker.interop.codes import (
    COMMENT,
    DECISION,
    PERCENT,
    PRESENCE,
    PRESENCE_BY_ROLE,
    RADIOGRAPHY,
    decision_code,
    probability_code,
    scheme,
)
from worker.uids import derived_uid


def structured_report(subject: Subject) -> Comprehensive3DSR:
    """The decision on one film, complete but neither final nor verified by anybody."""
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(subject)),
        procedure_reported=RADIOGRAPHY,
        imaging_measurements=[_finding(subject)],
        referenced_images=[subject.reference] if _fits_image_library(subject) else None,
    )
    answer = Comprehensive3DSR(
        evidence=[subject.reference],
        content=report,
        is_complete=True,
        is_final=False,
        is_verified=False,
        series_description=long_string(f"{NOTICE}: {subject.algorithm[0]}"),
        **subject.place("sr"),
        **subject.equipment(),
    )
    complete(answer, subject)
    answer.CodingSchemeIdentificationSequence = [scheme()]
    return answer


def _observer(subject: Subject) -> ObserverContext:
    name, _ = subject.algorithm
    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=subject.device_uid,
            name=MANUFACTURER,
            manufacturer_name=MANUFACTURER,
            model_name=name,
            serial_number=subject.stored.record.weights_sha256[:16],
        ),
    )


def _finding(subject: Subject) -> MeasurementsAndQualitativeEvaluations:
    """TID 1501, of the whole image: what was looked for, the decision, and how sure."""
    origin, source = subject.origin, subject.source
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=derived_uid("finding", origin.sha256, origin.identity),
            identifier=f"{subject.finding.meaning} {origin.sha256[:12]}",
        ),
        finding_type=subject.finding,
        algorithm_id=_algorithm(subject),
        measurements=_probability(subject),
        qualitative_evaluations=[
            QualitativeEvaluation(PRESENCE, PRESENCE_BY_ROLE[subject.role]),
            QualitativeEvaluation(DECISION, decision_code(subject.stored.record.decision)),
        ],
        source_images=[
            SourceImageForMeasurementGroup(str(source.SOPClassUID), str(source.SOPInstanceUID))
        ],
    )
    group[0].ContentSequence.extend(
        TextContentItem(COMMENT, text, RelationshipTypeValues.CONTAINS)
        for text in _comments(subject)
    )
    return group


def _algorithm(subject: Subject) -> AlgorithmIdentification:
    """TID 4019, with all that the decision depends on."""
    name, version = subject.algorithm
    card, record = subject.stored.card, subject.stored.record
    low, high = card.decision.indeterminate
    scale = "calibrated probability" if subject.is_calibrated else "uncalibrated score"
    return AlgorithmIdentification(
        name=name,
        version=version,
        manufacturer=MANUFACTURER,
        parameters=[
            f"threshold = {record.threshold:g} ({scale} of {card.labels[1]})",
            f"indeterminate from {low:g} to {high:g}",
            f"guard threshold = {record.guard_threshold:g}",
            f"weights SHA-256 = {record.weights_sha256}",
            f"architecture = {card.architecture}",
        ],
    )


def _probability(subject: Subject) -> list[Measurement] | None:
    probability = subject.probability
    if probability is None:
        return None
    name = probability_code(subject.finding, subject.role)
    return [Measurement(name=name, value=round(100 * probability, 4), unit=PERCENT)]


def _comments(subject: Subject) -> list[str]:
    record = subject.stored.record
    reason = f" ({record.reason})" if record.reason else ""
    return [
        f"{NOTICE}. Decision support for a radiologist.",
        f"{record.decision}{reason}" + (f": {record.message}" if record.message else ""),
    ]


def _fits_image_library(subject: Subject) -> bool:
    """Whether TID 1600 can describe the image: highdicom wants these of CR and DX."""
    return all(key in subject.source for key in ("PatientOrientation", "ImagerPixelSpacing"))
