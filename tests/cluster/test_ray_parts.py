"""What a backfill on Ray is made of, without a cluster: its plan, its ground, its refusals."""

from dataclasses import replace

import pytest
from ray.exceptions import ObjectStoreFullError, OutOfDiskError
from sqlalchemy import text

from tests.cluster.conftest import feed, films_of
from tests.cluster.field import SETTINGS
from worker.cli.on_ray import backfill_on_ray
from worker.config import load_config
from worker.errors import (
    ClusterLost,
    ConfigError,
    DecoderUnavailable,
    ShareGone,
    SiteBusy,
    UsageError,
)
from worker.folders import raise_it
from worker.intake.archive import Folder
from worker.on_ray.attach import attached, require_address
from worker.on_ray.backfill import require_cluster_site
from worker.on_ray.decoding import RemoteDecoders
from worker.on_ray.node import Ground, Seen, said_by_node
from worker.on_ray.plan import Place, plan
from worker.on_ray.run import driving
from worker.store.leases import lease
from worker.store.mark import site_marks
from worker.store.office import only_backfill
from worker.store.work import begin_attempt


def cpus(places):
    return sum(place.cpus for place in places)


@pytest.mark.parametrize("cores", [1, 2, 8, 12, 64])
def test_screeners_and_decoders_share_the_cores_of_a_node_without_gpus(cores):
    made = plan([{"CPU": cores}], use_gpus=True)
    assert cpus(made.screeners) == cpus(made.decoders) == cores / 2
    assert max(place.cores for place in made.screeners) <= 8


def test_each_gpu_has_a_screener_and_all_other_cores_decode():
    nodes = [{"CPU": 16.0, "GPU": 4.0}, {"CPU": 32.0}]
    made = plan(nodes, use_gpus=True)
    assert made.screeners == (Place(2.0, 1.0, 1),) * 4
    assert cpus(made.decoders) == 16 - 4 * 2 + 32
    assert made.films_each == 2 * 40 / 4


def test_gpus_are_left_alone_where_the_model_is_to_run_on_the_cpu():
    made = plan([{"CPU": 8.0, "GPU": 1.0}], use_gpus=False)
    assert {place.gpus for place in made.screeners} == {0.0}


def test_a_head_without_cores_has_no_actors():
    made = plan([{"CPU": 0.0}, {}], use_gpus=True)
    assert not made.screeners
    assert not made.decoders


@pytest.mark.parametrize("cores", [1.0, 2.0, 3.0])
def test_a_gpu_node_of_few_cores_still_decodes(cores):
    made = plan([{"CPU": cores, "GPU": 1.0}], use_gpus=True)
    assert cpus(made.screeners) + cpus(made.decoders) <= cores
    assert made.decoders


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "film.png").write_bytes(b"a film")
    return Seen(folder, folder / "film.png", 6)


@pytest.fixture
def ground(site, archive):
    return Ground.of(site, [archive], [])


def test_a_node_that_has_all_reads_the_same_configuration(ground, site):
    assert ground.config() == site


def test_a_node_with_another_version_says_which(ground):
    with pytest.raises(ClusterLost, match=r"it has Screen .*, the driver 0\.0"):
        replace(ground, version="0.0").config()


def test_a_node_with_another_configuration_says_so(ground, site):
    (site.root / "config.toml").write_text("[batch]\nsize = 7\n")
    with pytest.raises(ConfigError, match=r"another file than the driver's"):
        ground.config()


def test_what_a_node_lacks_is_said_with_its_name():
    with pytest.raises(ShareGone, match=r"^node .+ \(.+\): no share$"), said_by_node():
        raise ShareGone("no share")


def test_a_node_without_the_site_says_so(ground, tmp_path):
    with pytest.raises(ConfigError, match=r"must be at the same path"):
        replace(ground, config_file=tmp_path / "nowhere.toml").config()


def test_a_node_that_does_not_have_the_archive_mounted_says_so(ground, archive):
    archive.film.unlink()
    with pytest.raises(ShareGone, match=r"the archive must be at the same path"):
        ground.config()


def test_a_node_with_another_archive_at_this_path_says_so(ground, archive):
    archive.film.write_bytes(b"another film")
    with pytest.raises(ShareGone, match=r"is another folder here"):
        ground.config()


def test_an_archive_that_is_gone_later_is_no_lost_film(ground, archive):
    check = ground.archives_here()
    check()
    archive.root.rename(archive.root.with_name("unmounted"))
    with pytest.raises(ShareGone, match="mount it"):
        check()


def test_a_node_with_another_key_of_patients_says_so(site, archive, tmp_path):
    dicom = site.dicom.model_copy(update={"identity": "pseudonym"})
    config = site.model_copy(update={"dicom": dicom})
    ground = Ground.of(config, [archive], [])
    ground.require_key(config)
    config.dicom.identity_key_file.write_text("ab" * 32)
    with pytest.raises(ConfigError, match="another key than the driver's"):
        ground.require_key(config)


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:x", ""])
def test_what_is_no_address_of_a_cluster_is_refused(address):
    with pytest.raises(UsageError, match="HOST:PORT"):
        require_address(address)


@pytest.mark.parametrize("address", ["auto", "local", "10.0.0.1:6379", "head.example:6379"])
def test_addresses_of_clusters_pass(address):
    require_address(address)


def test_a_missing_ray_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("worker.on_ray.attach.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"cxr-screen\[ray\]"):
        require_address("auto")


def test_a_cluster_that_is_not_there_is_said_so():
    with (
        pytest.raises(ClusterLost, match=r"no Ray cluster answers at 127\.0\.0\.1:1"),
        attached("127.0.0.1:1"),
    ):
        pass


def test_a_gpu_by_its_number_is_refused_on_a_cluster(site):
    database = site.database.model_copy(update={"url": "postgresql://screen@server/screen"})
    model = site.model.model_copy(update={"device": "cuda:1"})
    with pytest.raises(ConfigError, match="cuda:1"):
        require_cluster_site(site.model_copy(update={"database": database, "model": model}))


def test_a_site_on_sqlite_is_refused_and_told_why(screen, site, sample_films):
    ended = screen("backfill", sample_films, "--engine", "ray", "--address", "local", cwd=site.root)
    assert ended.returncode == 2
    assert "needs PostgreSQL" in ended.stderr
    assert "a SQLite file serves one" in ended.stderr


@pytest.fixture
def shared(site, server_url):
    """A site on PostgreSQL."""
    (site.root / "config.toml").write_text(SETTINGS.format(lease_s=60, url=server_url))
    return load_config(site.root / "config.toml")


def test_what_a_backfill_on_one_host_had_in_hand_when_it_died_is_given_to_actors(
    shared, server, new_holder, noon
):
    holder = new_holder()
    items = feed(server, holder, noon, 2, "/archive", None)
    begin_attempt(server, items, holder.run_id, holder.model_id)
    assert lease(server, holder, "/archive", limit=9) == []
    with driving(shared, server):
        assert films_of(server, "state", "worker_deaths") == [("waiting", 1)] * 2
        assert len(lease(server, holder, "/archive", limit=9)) == 1  # quite alone


def backfill_nowhere(config, archive):
    nowhere = {"address": "127.0.0.1:1", "limit": None, "rescan": False, "reports": "all"}
    backfill_on_ray(config, [Folder(archive.root)], raise_it, lambda _listing: None, **nowhere)


def test_a_cluster_is_not_given_work_while_another_backfill_runs(shared, server, archive):
    with only_backfill(server), pytest.raises(SiteBusy, match="another backfill"):
        backfill_nowhere(shared, archive)


def test_a_site_that_clusters_alone_screen_for_is_marked(shared, server, archive):
    with pytest.raises(ClusterLost):
        backfill_nowhere(shared, archive)
    assert len(site_marks(server)) == 1


def execute(server, statement):
    with server.begin() as connection:
        connection.execute(text(statement))


@pytest.mark.slow
def test_a_backfill_on_one_host_after_a_cluster_leaves_no_film_out_in_silence(
    site, server, server_url, screen, sample_films
):
    """Films in the hands of actors: of living ones it says so, those of dead ones it screens."""
    (site.root / "config.toml").write_text(SETTINGS.format(lease_s=1, url=server_url))
    screen("backfill", sample_films, "--limit", "1", cwd=site.root)
    leased = "state = 'attempted', lease_token = 7, lease_until = now() + interval '1 day'"
    execute(server, f"UPDATE files SET {leased} WHERE id = (SELECT max(id) FROM files)")
    ended = screen("backfill", sample_films, "--limit", "1", cwd=site.root)
    assert ended.returncode == 3
    assert "1 files were in the hands of a cluster" in ended.stderr
    execute(server, "UPDATE files SET lease_until = now() - interval '1 day'")
    assert screen("backfill", sample_films, "--limit", "1", cwd=site.root).returncode == 0
    assert ("attempted",) not in films_of(server, "state")


class Refusing:
    """A decoding actor that takes no film, and why."""

    def __init__(self, error):
        self.error = error
        self.decode = self.ready = self

    def remote(self, *_):
        if _:
            raise self.error


@pytest.mark.parametrize("error", [OutOfDiskError(), ObjectStoreFullError()])
def test_what_ray_has_no_room_for_is_no_strike_against_a_film(error, monkeypatch, tmp_path):
    """A full disk of one node quarantined films."""
    monkeypatch.setattr("worker.on_ray.decoding._Seat.look", lambda _seat: True)
    decoders = RemoteDecoders(None, None, 1)
    decoders.use([Refusing(error)], 1)
    decoders.carried = tmp_path
    (tmp_path / "film").write_bytes(b"film")
    try:
        with pytest.raises(DecoderUnavailable, match=type(error).__name__):
            decoders.submit(tmp_path / "film").result(30)
    finally:
        decoders.close()
