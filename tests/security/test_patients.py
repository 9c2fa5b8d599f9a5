"""Who the patient is, is nowhere unless a site wants it, and then on pages only."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pydicom
import pytest

from tests.imaging.peers import resaved
from tests.security.conftest import hostile_dicom, real_site
from worker.config import Config, load_config
from worker.store.database import open_database

pytestmark = pytest.mark.slow

NAME, SHOWN = "Mustermann^Erika", "Mustermann, Erika"
FAMILY, ID, ACCESSION = "Mustermann", "PID-4711-0815", "ACC-2024-17"
SECRETS = (FAMILY, ID, ACCESSION)

Screen = Callable[..., "CompletedProcess[str]"]


@pytest.fixture(params=["made", "real"])
def film(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A chest film as DICOM whose patient has a name."""
    if request.param == "made":
        content = hostile_dicom(NAME, 1, "PatientName")
    else:
        data = request.getfixturevalue("shared_data")
        content = (data / "dicom" / "chest" / "canon_dx_pa_mono1_j2k.dcm").read_bytes()

    def name(ds: pydicom.Dataset) -> None:
        ds.PatientName, ds.PatientID, ds.AccessionNumber = NAME, ID, ACCESSION
        ds.IssuerOfPatientID, ds.StudyDate = "CLINIC", "20240131"

    content = resaved(content, name)
    path = tmp_path / "film.dcm"
    path.write_bytes(content)
    return path


@pytest.fixture
def site(tmp_path: Path, tiny_model: Path, film: Path) -> Config:
    """A site with that film in its inbox."""
    config = real_site(tmp_path / "site", tiny_model)
    shutil.copy(film, config.site.inbox / "film.dcm")
    return config


def want(site: Config, identity: str) -> Config:
    """Change the site's configuration."""
    file = site.root / "config.toml"
    text = file.read_text().partition("[dicom]")[0]
    file.write_text(f"{text}[dicom]\nidentity = '{identity}'\n")
    return load_config(file)


def secrets_in(text: str) -> list[str]:
    """What of the patient stands there."""
    return [secret for secret in SECRETS if secret in text]


def pages(site: Config) -> str:
    """All that stands below reports/."""
    found = [path.read_text(errors="replace") for path in site.site.reports.rglob("*.html")]
    assert len(found) > 1
    return "\n".join(found)


def said(screen: Screen, site: Config, film: Path) -> str:
    """All that the commands say, to people and to scripts, of the film."""
    calls = [
        ("watch", "--once"),
        ("query", "--json"),
        ("query",),
        ("query", "--csv"),
        ("classify", "--json", film),
    ]
    ran = [screen(*call, cwd=site.root) for call in calls]
    assert [each.returncode for each in ran] == [0] * len(calls), ran
    assert json.loads(ran[1].stdout)[0]["status"] == "screened"
    return "\n".join(each.stdout + each.stderr for each in ran)


def stored(site: Config) -> list[tuple[str | None, ...]]:
    """What the database has of the patients of all films."""
    engine = open_database(site.database)
    asked = "SELECT patient_name, patient_id, accession_number, patient_key FROM films ORDER BY id"
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.exec_driver_sql(asked)]
    engine.dispose()
    return rows


def test_unless_a_site_wants_patients_they_are_nowhere(
    screen: Screen, site: Config, film: Path
) -> None:
    assert secrets_in(film.read_bytes().decode("latin-1")) == list(SECRETS)
    assert secrets_in(said(screen, site, film)) == []
    assert secrets_in(pages(site)) == []
    assert stored(site) == [(None, None, None, None)]
    for path in site.root.glob("screen.db*"):
        assert secrets_in(path.read_bytes().decode("latin-1")) == []
    assert not site.dicom.identity_key_file.exists()


def test_a_pseudonym_is_all_that_is_kept(screen: Screen, site: Config, film: Path) -> None:
    want(site, "pseudonym")
    assert secrets_in(said(screen, site, film)) == []
    assert secrets_in(pages(site)) == []
    ((*in_clear, key),) = stored(site)
    assert in_clear == [None, None, None]
    assert key is not None
    for path in site.root.glob("screen.db*"):
        assert secrets_in(path.read_bytes().decode("latin-1")) == []
    assert key not in pages(site)
    assert key not in said(screen, site, film)
    doctor = screen("doctor", cwd=site.root).stdout
    assert "patients: a keyed hash of their ID is kept" in doctor
    assert "its key is there" in doctor


def test_a_site_that_wants_patients_has_them_on_pages_only(
    screen: Screen, site: Config, film: Path
) -> None:
    want(site, "clear")
    assert secrets_in(said(screen, site, film)) == []
    assert stored(site)[0][:3] == (SHOWN, ID, ACCESSION)
    page = next((site.site.reports / "films").iterdir())
    assert SHOWN in page.read_text()
    assert secrets_in(page.read_text()) == list(SECRETS)
    assert secrets_in((site.site.reports / "index.html").read_text()) == []
    page.unlink()
    assert screen("watch", "--once", cwd=site.root).returncode == 0
    assert SHOWN in page.read_text()

    for identity in ("off", "pseudonym"):
        want(site, identity)
        assert screen("report", cwd=site.root).returncode == 0
        assert secrets_in(pages(site)) == []
    want(site, "clear")
    assert screen("report", cwd=site.root).returncode == 0
    assert SHOWN in page.read_text()


def test_previous_films_of_the_patient_stand_on_a_new_page(
    screen: Screen, site: Config, film: Path
) -> None:
    want(site, "pseudonym")
    assert screen("watch", "--once", cwd=site.root).returncode == 0
    (first,) = (site.site.reports / "films").iterdir()
    assert "Previous films" not in first.read_text()

    later = resaved(film.read_bytes(), lambda ds: setattr(ds, "StudyDate", "20240607"))
    other = resaved(later, lambda ds: setattr(ds, "PatientID", "PID-4711-0816"))
    for name, content in (("later.dcm", later), ("other.dcm", other)):
        (site.site.inbox / name).write_bytes(content)
    assert screen("watch", "--once", cwd=site.root).returncode == 0
    second, third = sorted(
        set((site.site.reports / "films").iterdir()) - {first},
        key=lambda page: "later.dcm" not in page.read_text(),
    )
    assert f'<a href="../films/{first.name}">2024-01-31</a>' in second.read_text()
    assert "Previous films" not in third.read_text()

    before = second.read_text()
    assert screen("report", cwd=site.root).returncode == 0
    assert second.read_text() == before
    assert "Previous films" not in first.read_text()  # those that came later are none
    want(site, "off")
    assert screen("report", cwd=site.root).returncode == 0
    assert "Previous films" not in pages(site)
