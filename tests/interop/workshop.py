"""A site whose films are real DICOM files, and whose decisions the test chooses."""

import hashlib
import io
import shutil
import subprocess
from concurrent.futures import Future

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from tests.standin import StandInScreener
from worker.imaging import prepare
from worker.imaging.decode import decode
from worker.intake.archive import archive_files
from worker.pipeline import Pipeline
from worker.records import Decision, Examined, Prediction, PreparedFilm, Record
from worker.store.work import begin_run, record, register_model
from worker.uids import model_identity

STUDY, SERIES, FILM = (f"1.2.826.0.1.3680043.9.9999.{number}" for number in (1, 2, 3))


def film(**changes):
    """A small CR chest film as a file; keywords set its attributes, `None` removes one."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = FILM
    ramp = np.linspace(0, 4095, 120 * 160).reshape(120, 160).astype(np.uint16)
    values = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": FILM,
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": SERIES,
        "PatientName": "Weiß^Jürgen=白^勇",
        "PatientID": "P-1",
        "PatientBirthDate": "20220301",
        "PatientSex": "M",
        "StudyDate": "20260503",
        "StudyTime": "081500",
        "StudyID": "S1",
        "AccessionNumber": "A-77",
        "ReferringPhysicianName": "Dr^Nobody",
        "Modality": "CR",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PatientOrientation": ["L", "F"],
        "Rows": 120,
        "Columns": 160,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": ramp.tobytes(),
    }
    with pydicom.config.disable_value_validation():
        for keyword, value in (values | changes).items():
            if value is not None:
                setattr(ds, keyword, value)
        data = io.BytesIO()
        ds.save_as(data, enforce_file_format=True)
    return data.getvalue()


class FilmScreener(StandInScreener):
    """Decodes films as the worker does, and decides what it is told to."""

    def __init__(self, card, decision=Decision.PNEUMONIA, reason=None):
        super().__init__(card)
        self.decision, self.reason = decision, reason
        self.identity = model_identity(card.weights.sha256, self.preprocessing)

    def examine(self, path):
        data = path.read_bytes()
        shown = decode(data)
        prepared = PreparedFilm(
            sha256=hashlib.sha256(data).hexdigest(),
            model_input=np.zeros((1, 1), np.float32),
            picture=prepare.encode_picture(prepare.display_levels(shown.pixels, 256), 85),
            format=shown.format,
            rows=shown.rows,
            columns=shown.columns,
            tags=shown.tags,
            notes=shown.notes,
            refusal=shown.refusal,
        )
        evidence = np.linspace(-2, 4, 49, dtype=np.float32).reshape(7, 7)
        future = Future()
        future.set_result(Examined(prepared, Prediction(0.8125, evidence, 0.25, 0.1)))
        return future

    def _record(self, file, examined):
        return Record(
            file=file,
            sha256=examined.film.sha256,
            decision=self.decision,
            probability=examined.prediction.probability,
            threshold=0.6,
            guard_score=0.25,
            guard_threshold=0.5,
            reason=self.reason,
            message="the message of the decision",
            model=self.card.name,
            weights_sha256=self.card.weights.sha256,
        )


def screened(config, engine, screener, archive, now):
    """Screen an archive's files, with a run and a pipeline of its own."""
    model_id = register_model(engine, screener.card, screener.preprocessing, now)
    run_id = begin_run(
        engine,
        kind="backfill",
        source="archive",
        model_id=model_id,
        device="cpu",
        precision="float32",
        now=now,
    )
    pipeline = Pipeline(
        engine,
        screener,
        config,
        run_id=run_id,
        model_id=model_id,
        check=lambda: None,
        clock=lambda: now,
    )
    items = record(engine, list(archive_files(archive)), run_id, model_id, now)
    return pipeline.finish(pipeline.start(items))


def tool(*command):
    """What a program of DCMTK or dicom3tools says; skips where it is not installed."""
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]}: install the packages dcmtk and dicom3tools")
    ended = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, errors="replace", check=False
    )
    return ended.stdout + ended.stderr


def errors_of(path):
    """What dciodvfy finds wrong with an object."""
    said = tool("dciodvfy", path).splitlines()
    assert any(line in ("Comprehensive3DSR", "SCImage") for line in said), said
    return [line for line in said if line.startswith(("Error", "Abort"))]
