"""Names of patients are nowhere unless a site wants them, and then on pages only."""

import json
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from subprocess import CompletedProcess

import pydicom
import pytest

from tests.security.conftest import hostile_dicom, real_site
from worker.config import Config, load_config
from worker.store.database import open_database

pytestmark = pytest.mark.slow

STORED, SHOWN = "Mustermann^Erika", "Mustermann, Erika"
FAMILY = "Mustermann"

Screen = Callable[..., "CompletedProcess[str]"]


@pytest.fixture(params=["made", "real"])
def film(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A chest film as DICOM whose patient has a name."""
    if request.param == "made":
        content = hostile_dicom(STORED, 1, "PatientName")
    else:
        data = request.getfixturevalue("shared_data")
        ds = pydicom.dcmread(data / "dicom" / "chest" / "canon_dx_pa_mono1_j2k.dcm")
        ds.PatientName = STORED
        file = BytesIO()
        ds.save_as(file)
        content = file.getvalue()
    path = tmp_path / "film.dcm"
    path.write_bytes(content)
    return path


@pytest.fixture
def site(tmp_path: Path, tiny_model: Path, film: Path) -> Config:
    """A site with that film in its inbox."""
    config = real_site(tmp_path / "site", tiny_model)
    shutil.copy(film, config.site.inbox / "film.dcm")
    return config


def want_names(site: Config, *, wanted: bool) -> None:
    """Change the site's configuration."""
    file = site.root / "config.toml"
    lines = [line for line in file.read_text().splitlines() if "patient_names" not in line]
    lines.insert(lines.index("[report]") + 1, f"patient_names = {str(wanted).lower()}")
    file.write_text("\n".join(lines))
    load_config(file)


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


def stored(site: Config) -> list[str | None]:
    """`films.patient_name` of all films."""
    engine = open_database(site.database)
    with engine.connect() as connection:
        names = list(connection.exec_driver_sql("SELECT patient_name FROM films").scalars())
    engine.dispose()
    return names


def test_unless_a_site_wants_names_they_are_nowhere(
    screen: Screen, site: Config, film: Path
) -> None:
    assert FAMILY in film.read_bytes().decode("latin-1")
    assert FAMILY not in said(screen, site, film)
    assert FAMILY not in pages(site)
    assert stored(site) == [None]
    for path in site.root.glob("screen.db*"):
        assert FAMILY.encode() not in path.read_bytes()


def test_a_site_that_wants_names_has_them_on_pages_only(
    screen: Screen, site: Config, film: Path
) -> None:
    want_names(site, wanted=True)
    assert FAMILY not in said(screen, site, film)
    assert stored(site) == [SHOWN]
    page = next((site.site.reports / "films").iterdir())
    assert SHOWN in page.read_text()
    assert FAMILY not in (site.site.reports / "index.html").read_text()
    page.unlink()
    assert screen("watch", "--once", cwd=site.root).returncode == 0
    assert SHOWN in page.read_text()

    want_names(site, wanted=False)
    assert screen("report", cwd=site.root).returncode == 0
    assert FAMILY not in pages(site)
    want_names(site, wanted=True)
    assert screen("report", cwd=site.root).returncode == 0
    assert SHOWN in page.read_text()
