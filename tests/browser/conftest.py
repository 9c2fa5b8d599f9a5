"""Sites of every size, their pages written and served: what the reading room may look like."""

import contextlib
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import timedelta

import cv2
import numpy as np
import pytest
import uvicorn

from bench.synthetic import fill
from models.cards import read_card
from models.registry import find_model
from tests.conftest import NOON, REPOSITORY
from tests.operators.conftest import Desk
from tests.report.conftest import RECORD
from tests.standin import StandInScreener, prepared_film
from worker.config import Config, load_config
from worker.errors import TruncatedFile
from worker.evaluate.metrics import evaluate
from worker.evaluate.page import WrongFilm, evaluation_page
from worker.evaluate.sample import Scored
from worker.records import Decision, Examined, Prediction, Reason, Tags
from worker.report.site import write_worklist
from worker.site import hold_site, init_site
from worker.store.reviews import Review, add_review
from worker.web.app import reading_room

MARKUP = "\"'><img src=x onerror=alert(1)></style><script>alert(2)</script>\u202e\x1b[31m"
ENDLESS = "W" * 180
QUICK = '[watch]\nsettle_s = 0\n[batch]\nsize = 4\nmax_age_s = 0\n[dicom]\nidentity = "clear"\n'
MANY = 10_000
STARTS_S = 60.0
FILM = REPOSITORY / "tests/films/PNEUMONIA/person1946_bacteria_4874.jpeg"
TAGS = Tags(
    *("DX", MARKUP, ENDLESS, 4.0, "MONOCHROME2", "1.2.840.10008.1.2.1", MARKUP),
    *(ENDLESS, MARKUP, "1.2.3", f"Doe^{MARKUP}"),
)
# File name → what its content asks for: decision, probability, reason.
FIRST = {
    "person1-bacteria": "PNEUMONIA 0.97",
    "<img src=x onerror=alert(1)>": "PNEUMONIA 0.81",
    "unsure": "INDETERMINATE 0.5",
    "person1-again": "PNEUMONIA 0.97",
    "half-copied": "FAILED",
}
SECOND = {
    ENDLESS: "REFUSED 0.3 outside-validated-population",
    "\u202egpj.mron": "NORMAL 0.02",
    "normal-2": "NORMAL 0.1",
}


class Obedient(StandInScreener):
    """Answers each film as its content asks; every tag of it is hostile."""

    def __init__(self):
        super().__init__(read_card(find_model("default")))
        grey = cv2.resize(cv2.imread(str(FILM), cv2.IMREAD_GRAYSCALE), (640, 480))
        self._picture = cv2.imencode(".jpg", grey)[1].tobytes()
        self._evidence = np.full((7, 7), -1, np.float32)
        self._evidence[3:6, 1:3] = 5
        self._asked = {}

    def examine(self, path):
        content, future = path.read_bytes(), Future()
        decision, *more = content.decode().split()
        if decision == "FAILED":
            future.set_exception(TruncatedFile("The file ends before its last row."))
            return future
        seen = {"picture": self._picture, "format": "DICOM", "rows": 480, "columns": 640}
        film = replace(prepared_film(content), **seen, tags=TAGS, notes=("no preamble", MARKUP))
        self._asked[film.sha256] = (decision, *more)
        future.set_result(Examined(film, Prediction(float(more[0]), self._evidence, 0.2, 0.2)))
        return future

    def answer(self, films, files, contents):
        return [
            replace(each, record=self._obey(each.record))
            for each in super().answer(films, files, contents)
        ]

    def _obey(self, record):
        decision, _, *reason = self._asked[record.sha256]
        changed = {"decision": Decision(decision), "message": ""}
        if reason:
            changed |= {"reason": Reason(reason[0]), "message": f"Refused for {MARKUP}."}
        return replace(record, **changed)


@dataclass(frozen=True)
class Place:
    """A site's pages, and the server that shows them."""

    config: Config
    url: str = ""

    def at(self, page, *, served):
        """The address of a page below reports/."""
        reports = self.config.site.reports
        return f"{self.url}/reports/{page}" if served else (reports / page).as_uri()

    def films(self):
        """Pages of films below reports/."""
        pages = sorted((self.config.site.reports / "films").glob("*.html"))
        return [f"films/{page.name}" for page in pages]


def new_site(folder):
    config, _ = init_site(folder / "site")
    (config.root / "config.toml").write_text(QUICK)
    return load_config(config.root / "config.toml")


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Films of each decision, one that failed, one that came twice, reviews, two runs."""
    config = new_site(tmp_path_factory.mktemp("small"))
    desk = Desk(config, Obedient(), NOON)
    for films in (FIRST, SECOND):
        desk.drop(**{name: f"{asked}\n".encode() for name, asked in films.items()})
        desk.work()
        desk.now += timedelta(hours=26)
    with desk.database() as engine:
        for verdict, finding in (("unclear", None), ("disagree", "NORMAL")):
            note = f"{MARKUP}\n{ENDLESS}"
            add_review(engine, Review(1, verdict, finding, note, f"Dr. {MARKUP}"[:100], desk.now))
        write_worklist(config.site, engine, desk.now)
    with serving(config) as url:
        yield Place(config, url)


@pytest.fixture(scope="session")
def single(tmp_path_factory):
    """One film."""
    config = new_site(tmp_path_factory.mktemp("single"))
    desk = Desk(config, Obedient(), NOON)
    desk.drop(film=b"PNEUMONIA 0.97")
    desk.work()
    return Place(config)


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """10,000 results, without their films."""
    config = new_site(tmp_path_factory.mktemp("many"))
    with hold_site(config) as engine:
        fill(engine, MANY)
        write_worklist(config.site, engine, NOON)
    with serving(config) as url:
        yield Place(config, url)


@contextlib.contextmanager
def serving(config):
    """The site's reading room at a free port of this machine."""
    app = reading_room(config, None)
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1)
    )
    app.state.is_over = lambda: server.should_exit
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end_s = time.monotonic() + STARTS_S
    while not server.started and time.monotonic() < end_s:
        time.sleep(0.01)
    assert server.started, "the server did not start"
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(STARTS_S)


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory):
    """The page of an evaluation, with a film that was called wrong."""
    films = [
        Scored(replace(RECORD, file=f"{MARKUP}{score}", probability=score), label, str(score))
        for label, scores in {"NORMAL": (0.1, 0.2, 0.9), "PNEUMONIA": (0.3, 0.8, 0.97)}.items()
        for score in scores
    ]
    wrong = [WrongFilm(each.record, each.label, *[FILM.read_bytes()] * 2) for each in films[2:4]]
    html = evaluation_page(
        evaluate(films, resamples=20),
        films,
        wrong,
        source=f"{MARKUP}{ENDLESS}",
        band=(0.35, 0.65),
        chosen_on=MARKUP,
    )
    page = tmp_path_factory.mktemp("evaluation") / "evaluation.html"
    page.write_text(html, encoding="utf-8")
    return page
