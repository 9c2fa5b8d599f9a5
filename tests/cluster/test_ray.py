"""A backfill on a Ray cluster of several nodes: whatever dies, each film has exactly one result."""

import signal
import sqlite3
import subprocess
from contextlib import closing
from importlib.util import find_spec

import pytest

from tests.cluster.loopback import BOUND_S, Loopback, Site, make_films, wait_until
from tests.objectstore import object_store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed"),
]
FILMS = 60


@pytest.fixture(scope="module")
def cluster():
    made = Loopback()
    yield made
    made.close()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return make_films(tmp_path_factory.mktemp("archive"), FILMS)


@pytest.fixture
def new_site(tmp_path, postgres):
    with postgres.database(migrated=True) as url:
        made = []

        def make(model):
            made.append(Site(tmp_path / "clinic", url, model))
            return made[-1]

        yield make
        for each in made:
            each.engine.dispose()


@pytest.fixture
def clinic(new_site, tiny_model):
    return new_site(tiny_model)


@pytest.fixture
def begin(clinic, archive):
    """Start the backfill; it is killed when the test ends."""
    started = []

    def start(cluster, *options):
        command = (archive, "--engine", "ray", "--address", cluster.address, *options)
        started.append(clinic.start(*command))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ended(process):
    """Wait for the command; (exit code, stdout, stderr)."""
    try:
        out, err = process.communicate(timeout=BOUND_S)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"it did not end: {process.communicate()}")
    return process.returncode, out, err


def assert_each_film_once(clinic, films=FILMS):
    assert clinic.rows("SELECT state, count(*) FROM files GROUP BY state") == [("screened", films)]
    assert clinic.rows("SELECT count(*), count(DISTINCT film_id) FROM screenings") == [
        (films, films)
    ]
    pages = {page for (page,) in clinic.rows("SELECT page FROM screenings")}
    assert len(pages) == films
    assert all((clinic.config.site.reports / page).is_file() for page in pages)
    assert clinic.rows("SELECT count(*) FROM failures") == [(0,)]


BLOWS = {
    "a screening actor": lambda cluster: cluster.kill_actor("ScreeningActor"),
    "a decoding actor": lambda cluster: cluster.kill_actor("DecodingActor"),
    "a node": lambda cluster: cluster.kill_node(),
}


@pytest.mark.parametrize("blow", BLOWS)
def test_what_dies_on_the_way_costs_no_film_and_gives_none_twice(blow, clinic, cluster, begin):
    command = begin(cluster)
    wait_until(lambda: clinic.finished() > 5, command)
    BLOWS[blow](cluster)
    code, out, err = ended(command)
    assert code == 0, err
    assert f"report: {clinic.config.site.reports}" in out
    assert_each_film_once(clinic)


def test_an_archive_in_an_object_store_is_screened_whatever_dies(clinic, archive, tmp_path):
    """Each screening actor fetches what it leases; bytes travel to the actor that decodes."""
    with object_store(tmp_path) as store:
        for path in sorted(archive.rglob("*.png")):
            store.call_s3(
                "put_object", Bucket="films", Key=f"2019/{path.name}", Body=path.read_bytes()
            )
        cluster = Loopback()
        try:
            options = ("--engine", "ray", "--address", cluster.address)
            command = clinic.start("s3://films/2019", *options)
            wait_until(lambda: clinic.finished() > 5, command)
            cluster.kill_actor("DecodingActor")
            wait_until(lambda: clinic.finished() > 20, command)
            cluster.kill_node()
            code, _, err = ended(command)
        finally:
            cluster.close()
    assert code == 0, err
    assert_each_film_once(clinic)
    assert {source for (source,) in clinic.rows("SELECT source FROM files")} == {"s3://films/2019"}


def test_the_same_command_goes_on_when_the_driver_was_killed(clinic, cluster, begin):
    first = begin(cluster)
    wait_until(lambda: clinic.finished() > 5, first)
    first.kill()
    first.wait()
    code, _, err = ended(begin(cluster))
    assert code == 0, err
    assert_each_film_once(clinic)
    assert clinic.rows("SELECT note FROM runs ORDER BY id") == [("interrupted",), (None,)]


def test_the_same_command_goes_on_in_a_new_cluster_when_the_head_was_killed(clinic, begin):
    first, second = Loopback(nodes=1), None
    try:
        command = begin(first)
        wait_until(lambda: clinic.finished() > 5, command)
        first.kill_head()
        code, _, _ = ended(command)
        assert code != 0
        second = Loopback(nodes=1)
        code, _, err = ended(begin(second))
        assert code == 0, err
    finally:
        first.close()
        if second:
            second.close()
    assert_each_film_once(clinic)


def test_ctrl_c_stops_in_order_and_says_how_to_go_on(clinic, cluster, begin):
    command = begin(cluster)
    wait_until(lambda: clinic.finished() > 5, command)
    command.send_signal(signal.SIGINT)
    code, _, err = ended(command)
    assert code == 130
    assert "files were finished, nothing is lost: the same command goes on" in err
    assert clinic.rows("SELECT count(*) FROM files WHERE state = 'attempted'") == [(0,)]
    assert clinic.rows("SELECT sum(worker_deaths) FROM files") == [(0,)]


def test_a_limit_is_kept_exactly(clinic, cluster, begin):
    code, out, err = ended(begin(cluster, "--limit", 10))
    assert code == 0, err
    assert clinic.finished() == 10
    code, out, err = ended(begin(cluster, "--limit", 3))
    assert "finished before 10" in out
    assert clinic.finished() == 13


def test_the_shipped_network_answers_on_a_cluster_as_it_does_alone(
    new_site, cluster, sample_films, screen, tmp_path
):
    clinic = new_site("default")
    code, _, err = ended(
        clinic.start(sample_films, "--engine", "ray", "--address", cluster.address)
    )
    assert code == 0, err
    screen("init", tmp_path / "alone", cwd=tmp_path)
    settings = tmp_path / "alone" / "config.toml"
    settings.write_text("[guard]\noutside_population = 'mark'\n")
    screen("backfill", sample_films, "--config", settings, cwd=tmp_path)
    asked = "SELECT file, decision, probability FROM files ORDER BY file"
    with closing(sqlite3.connect(tmp_path / "alone" / "screen.db")) as database:
        alone = {file: answer for file, *answer in database.execute(asked)}
    together = {file: answer for file, *answer in clinic.rows(asked)}
    assert len(alone) == 16
    assert together.keys() == alone.keys()
    for file, (decision, probability) in together.items():
        assert decision == alone[file][0]
        assert probability == pytest.approx(alone[file][1], abs=1e-4)
