"""Labelled films: class folders or a CSV, and whose film each one is."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.errors import UsageError
from worker.folders import regular_files
from worker.records import Labels

LABELS: Labels = ("NORMAL", "PNEUMONIA")  # of the shipped models

# Names of the Kermany set. Bacteria and virus share person numbers: group by the bare number.
_PERSON = re.compile(r"person(\d+)_(bacteria|virus)_")
_NORMAL = re.compile(r"((NORMAL2-)?IM-\d+)-")


@dataclass(frozen=True)
class LabelledFilm:
    """One film with its truth; `group` is the patient as far as known, `domain` the source."""

    path: Path
    label: str
    group: str
    domain: str


def group_and_domain(name: str, label: str) -> tuple[str, str]:
    """Patient and source from a file name of the Kermany set; else the name and the label.

    >>> group_and_domain("person12_bacteria_46.jpeg", "PNEUMONIA")
    ('person12', 'bacteria')
    >>> group_and_domain("NORMAL2-IM-1018-0001.jpeg", "NORMAL")
    ('NORMAL2-IM-1018', 'NORMAL2-IM')
    """
    if match := _PERSON.match(name):
        return f"person{match[1]}", match[2]
    if match := _NORMAL.match(name):
        return match[1], match[1].rpartition("-")[0]
    return name, label


def class_folders(folder: Path, labels: Labels = LABELS) -> Iterator[LabelledFilm]:
    """Films of the folders named as the labels (NORMAL, PNEUMONIA), recursively, in sorted order.

    Raises UsageError when one of the two is missing.
    """
    for label in labels:
        if not (folder / label).is_dir():
            found = ", ".join(sorted(path.name for path in folder.glob("*") if path.is_dir()))
            raise UsageError(
                f"{folder} has no folder {label}: class folders are {', '.join(labels)}, as the "
                f"model's labels; found {found or 'none'}"
            )
        for path in regular_files(folder / label):
            yield LabelledFilm(path, label, *group_and_domain(path.name, label))


def labels_csv(table: Path, folder: Path, labels: Labels = LABELS) -> Iterator[LabelledFilm]:
    """Films named by a CSV with columns `file,label[,group]`, paths relative to `folder`.

    Raises UsageError naming the line that is wrong.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read the labels {table}: {error}") from error
    if not rows or not {"file", "label"} <= rows[0].keys():
        raise UsageError(
            f"{table} needs a heading with the columns file,label and at least one row"
        )
    seen: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        if row["file"] is None or row["label"] is None:
            raise UsageError(f"{table}:{number}: the row is shorter than the heading")
        if row["label"] not in labels:
            raise UsageError(
                f"{table}:{number}: label '{row['label']}' is none of the model's: "
                f"{', '.join(labels)}"
            )
        if seen.setdefault(row["file"], row["label"]) != row["label"]:
            raise UsageError(f"{table}:{number}: {row['file']} has two labels")
        group, domain = group_and_domain(Path(row["file"]).name, row["label"])
        yield LabelledFilm(folder / row["file"], row["label"], row.get("group") or group, domain)
