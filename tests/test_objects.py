"""Archives in object stores: listed in pages, fetched ahead, each film as from a folder."""

import errno
import logging
import os
import stat
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from tests.conftest import screen_environment, sha256
from tests.objectstore import SECRET, object_store
from worker.backfill import backfill
from worker.errors import LostFile, UsageError
from worker.intake import objects
from worker.intake.found import Found
from worker.intake.objects import Objects, archive_at, fetch, require_listable
from worker.pipeline import Pipeline
from worker.recovery import remove_half_written, take_up
from worker.site import hold_site
from worker.spool import Spool, spooling, temporary
from worker.store.answers import Place
from worker.store.queries import results
from worker.store.work import Item, begin_run, register_model
from worker.whereabouts import films_at

NAMES = ("a.jpg", "b/c.jpg", "b/d.jpg", "b-.jpg", "x y%41?#.jpg", "ä.jpg")


@pytest.fixture
def memory():
    """A store within this process."""
    store = fsspec.filesystem("memory")
    for name in NAMES:
        store.pipe(f"/films/2019/{name}", name.encode())
    yield "memory://films/2019"
    store.rm("/films", recursive=True)


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """A server on this machine that speaks like S3, with a bucket."""
    with object_store(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture
def bucket(s3, request):
    """A prefix of its own with films below it, a marker of a folder, and a neighbour."""
    prefix = sha256(request.node.name.encode())[:8]
    for name in NAMES:
        s3.call_s3("put_object", Bucket="films", Key=f"{prefix}/{name}", Body=name.encode())
    s3.call_s3("put_object", Bucket="films", Key=f"{prefix}/b/", Body=b"")
    s3.call_s3("put_object", Bucket="films", Key=f"{prefix}0/other.jpg", Body=b"other")
    return f"s3://films/{prefix}"


def refuse(error):
    raise error


def listed(url, after=None):
    return list(Objects(url).files(refuse, after))


def test_any_store_is_listed_in_one_order_and_from_any_object_on(memory):
    found = listed(memory)
    assert [each.url.removeprefix(f"{memory}/") for each in found] == [
        *("a.jpg", "b/c.jpg", "b/d.jpg", "b-.jpg", "x y%41?#.jpg", "ä.jpg")
    ]
    for number, each in enumerate(found):
        assert listed(memory, each.place) == found[number + 1 :]
    assert {each.source for each in found} == {memory}
    assert all(each.mtime_ns > 0 for each in found)


def test_s3_is_listed_in_pages_and_from_any_object_on(bucket, monkeypatch):
    monkeypatch.setattr(objects, "_PAGE_KEYS", 2)
    found = listed(bucket)
    assert {each.url.removeprefix(f"{bucket}/") for each in found} == set(NAMES)
    for number, each in enumerate(found):
        assert listed(bucket, each.place) == found[number + 1 :]


def test_one_object_is_an_archive_of_one(bucket):
    [found] = listed(f"{bucket}/a.jpg")
    assert (found.url, found.size) == (f"{bucket}/a.jpg", 5)


def test_a_bucket_that_is_not_there_is_an_error_before_anything_is_done(s3):
    with pytest.raises(FileNotFoundError, match="the object store says"):
        require_listable(archive_at("s3://no-such-bucket/films"))


@pytest.mark.parametrize(
    "url",
    [
        f"s3://key:{SECRET}@films/2019",
        f"https://user:{SECRET}@host/films",
        f"https://host/films?X-Amz-Signature={SECRET}",
        f"simplecache::s3://key:{SECRET}@films",
        "file:///archive",
        "nonsense://films",
        "s3://",
    ],
)
def test_a_url_that_is_no_archive_or_holds_a_secret_is_refused_and_not_repeated(url):
    with pytest.raises(UsageError) as refused:
        archive_at(url)
    assert SECRET not in str(refused.value)


# Fetching


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def item(number, size=3):
    url = f"s3://films/{number}"
    return Item(number, Found("s3://films", url, Path(), size, 7, url=url))


def test_objects_come_in_order_and_lie_closed_in_work_until_they_are_released(work):
    spool = Spool(work, 1000, lambda url, path, _: path.write_text(url))
    items = list(spool.ready(item(number) for number in range(100)))
    assert [each.id for each in items] == list(range(100))
    for each in items:
        assert each.found.path.read_text() == each.found.url
        assert stat.S_IMODE(each.found.path.stat().st_mode) == 0o600
    spool.release(items[:60])
    assert len(list(work.iterdir())) == 40
    spool.close()
    assert list(work.iterdir()) == []


def test_only_so_many_are_fetched_ahead(work):
    fetched = []
    spool = Spool(work, 1000, lambda url, *_: fetched.append(url))
    ready = spool.ready(item(number) for number in range(1000))
    next(ready)
    assert len(list(work.iterdir())) < 60
    spool.close()


def test_large_objects_come_one_at_a_time(work, monkeypatch):
    monkeypatch.setattr("worker.spool._MOST_BYTES", 10)
    spool = Spool(work, 1000, lambda *_: None)
    most = 0
    for each in spool.ready(item(number, size=8) for number in range(9)):
        most = max(most, len(list(work.iterdir())))
        spool.release([each])
    assert most <= 2
    spool.close()


def test_a_batch_is_waited_for_with_signs_of_life(work, monkeypatch):
    monkeypatch.setattr("worker.spool._ALIVE_EVERY_S", 0.01)
    goes_on, signs = threading.Event(), []

    def fetch(url, path, _):
        goes_on.wait(30)
        if url.endswith("/1"):
            raise LostFile("gone")
        path.write_text(url)

    def alive():
        signs.append(1)
        if len(signs) == 5:
            goes_on.set()

    with closing(Spool(work, 1000, fetch)) as spool:
        lost, *here = spool.all_ready([item(1), item(2), item(3)], alive)
        assert isinstance(lost.refused, LostFile)
        assert [each.found.path.read_text()[-1] for each in here] == ["2", "3"]
        assert len(signs) >= 5
        spool.release(here)
        assert list(work.iterdir()) == []


def test_whoever_may_not_go_on_waits_for_no_object(work):
    def stopped():
        raise KeyboardInterrupt

    with closing(Spool(work, 1000, lambda *_: None)) as spool, pytest.raises(KeyboardInterrupt):
        spool.all_ready([item(1)], stopped)
    assert list(work.iterdir()) == []


def test_objects_lie_where_no_worker_sweeps_and_nobody_else_reads(site):
    """Another worker's sweep of work/ took them for half-written files after a lease."""
    with spooling(site) as spool:
        assert not any(spool.folder.is_relative_to(folder) for folder in site.site.folders)
        assert spool.folder.stat().st_mode & 0o777 == 0o700
        temporary(spool.folder).write_bytes(b"film")
    assert not spool.folder.exists()


def test_an_object_over_the_limit_is_not_fetched(work):
    spool = Spool(work, 10, refuse)
    [refused] = spool.ready([item(1, size=11)])
    assert refused.refused.slug == "too-large"
    spool.close()


def test_a_store_that_slows_us_down_is_asked_again_after_a_pause(work, monkeypatch, caplog):
    monkeypatch.setattr("worker.spool._PAUSES_S", (0.0, 0.0))
    errors = [OSError(errno.EBUSY, "the object store failed: busy"), TimeoutError("late"), None]

    def fails(_url, path, _source):
        if error := errors.pop(0):
            raise error
        path.write_bytes(b"film")

    with caplog.at_level(logging.WARNING):
        spool = Spool(work, 1000, fails)
        [here] = spool.ready([item(1)])
    assert here.found.path.read_bytes() == b"film"
    assert here.refused is None
    assert "asked again" in caplog.text
    spool.close()


def test_an_object_that_always_fails_does_not_keep_those_after_it_from_their_turn(
    memory, work, monkeypatch
):
    """One object whose key was disabled ended every run at its place."""
    monkeypatch.setattr("worker.spool._PAUSES_S", (0.0,))

    def fails(url, path, source):
        if url.endswith("1"):
            raise OSError(errno.EIO, "the object store failed")

    items = [item(number) for number in range(3)]
    items = [replace(each, found=replace(each.found, source=memory)) for each in items]
    spool = Spool(work, 1000, fails)
    refused = [each.refused for each in spool.ready(items)]
    assert [error and error.slug for error in refused] == [None, "unreadable-file", None]
    assert refused[1].may_pass
    spool.close()


def test_an_object_whose_store_does_not_say_its_size_is_fetched(memory, tmp_path, monkeypatch):
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.size", lambda *_: None)
    fetch(f"{memory}/a.jpg", tmp_path / "film", memory)
    assert (tmp_path / "film").read_bytes() == b"a.jpg"


def test_a_store_that_goes_on_failing_blames_no_film(work, monkeypatch):
    monkeypatch.setattr("worker.spool._PAUSES_S", (0.0,))

    def fails(*_):
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr("worker.intake.objects.require_listable", fails)
    spool = Spool(work, 1000, fails)
    with pytest.raises(OSError, match="busy"):
        list(spool.ready([item(1)]))
    spool.close()
    assert list(work.iterdir()) == []


def test_what_a_kill_leaves_is_no_film_of_the_inbox_and_goes_at_the_next_start(site):
    temporary(site.site.work).write_bytes(b"a film of a bucket")
    with hold_site(site) as engine:
        taken = take_up(site.site, engine)
        assert (taken.claimed, taken.waiting, taken.finished) == ([], [], [])
        remove_half_written(site.site)
    assert not list(site.site.work.glob(".screen-*"))


def test_one_object_that_is_gone_or_refused_is_its_own_fault(s3, bucket, tmp_path):
    target, prefix = tmp_path / "film", bucket.removeprefix("s3://films/")
    for name in ("gone.jpg", "refused.jpg"):
        s3.call_s3("put_object", Bucket="films", Key=f"{prefix}/{name}", Body=b"film")
    with pytest.raises(LostFile):
        fetch(f"{bucket}/gone.jpg", target, bucket)
    with pytest.raises(objects.UnreadableFile, match="cold storage"):
        fetch(f"{bucket}/refused.jpg", target, bucket)


def test_a_store_that_lets_us_list_nothing_blames_no_film(s3, bucket, tmp_path):
    """A token that expired in the night would have failed ten million films."""
    with pytest.raises(FileNotFoundError):
        fetch("s3://no-such-bucket/a.jpg", tmp_path / "film", "s3://no-such-bucket")


def test_a_film_is_found_again_in_its_store(memory, site):
    place = Place(memory, "a", Path(), None, False, url=f"{memory}/a.jpg")
    with films_at(site, place) as [path]:
        assert path.read_bytes() == b"a.jpg"
    assert not path.exists()
    gone = Place(memory, "a", Path(), None, False, url=f"{memory}/none.jpg")
    with films_at(site, gone) as paths:
        assert paths == []


# Through the pipeline


@pytest.fixture
def run(site, screener, noon):
    """Backfill a URL into the site; gives how many ended how."""
    with hold_site(site) as engine:

        def backfilled(url, **options):
            model_id = register_model(engine, screener.card, screener.preprocessing, noon)
            run_id = begin_run(
                engine,
                kind="backfill",
                source=url,
                model_id=model_id,
                device="cpu",
                precision="float32",
                now=noon,
            )
            ended = Counter()
            ids = {"run_id": run_id, "model_id": model_id}
            spool = Spool(site.site.work, 1 << 20)
            try:
                backfill(
                    engine,
                    Pipeline(engine, screener, site, **ids, check=lambda: None),
                    [archive_at(url)],
                    **ids,
                    batch_size=2,
                    limit=None,
                    advance=lambda _, outcomes: ended.update(type(o).__name__ for o in outcomes),
                    spool=spool,
                    **options,
                )
            finally:
                spool.close()
            return ended

        backfilled.engine = engine
        yield backfilled


@pytest.mark.parametrize("kind", ["memory", "bucket"])
def test_a_store_is_screened_as_a_folder_is(kind, request, run, site):
    url = request.getfixturevalue(kind)
    assert run(url) == {"Screened": len(NAMES)}
    said = {each.record.file: each.record.sha256 for each in results(run.engine)}
    assert said == {f"{url}/{name}": sha256(name.encode()) for name in NAMES}
    assert {path.name for path in site.site.work.iterdir()} == {".lock", ".site"}
    assert run(url) == {}


def test_a_film_that_the_store_refused_is_tried_again(s3, bucket, run):
    key = f"{bucket.removeprefix('s3://films/')}/refused.jpg"
    s3.call_s3("put_object", Bucket="films", Key=key, Body=b"film")
    assert run(bucket) == {"Screened": len(NAMES), "Failed": 1}
    assert run(bucket) == {"Failed": 1}


def test_an_object_that_was_written_again_is_screened_again(memory, run):
    run(memory)
    fsspec.filesystem("memory").pipe("/films/2019/a.jpg", b"another film")
    assert run(memory) == {"Screened": 1}


@pytest.mark.slow
def test_the_command_screens_a_bucket_and_keeps_no_secret(
    s3, bucket, tiny_model, screen, sample_films, tmp_path
):
    prefix = bucket.removeprefix("s3://films/")
    film = next((sample_films / "NORMAL").iterdir())
    key = f"{prefix}/film.jpeg"
    s3.call_s3("put_object", Bucket="films", Key=key, Body=film.read_bytes())
    screen("init", tmp_path / "site", cwd=tmp_path)
    (tmp_path / "site" / "config.toml").write_text(f"[model]\nname = '{tiny_model}'\n")
    ended = screen("backfill", bucket, cwd=tmp_path / "site")
    assert ended.returncode == 3, ended.stderr  # the others are no films
    assert f"failed {len(NAMES)}" in ended.stdout
    assert SECRET not in ended.stdout + ended.stderr
    for path in (tmp_path / "site").rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
    refused = screen("backfill", f"s3://k:{SECRET}@films", cwd=tmp_path / "site")
    assert refused.returncode == 2
    assert SECRET not in refused.stderr


def test_without_its_package_the_extra_is_named(screen, site, tmp_path):
    (tmp_path / "without" / "s3fs").mkdir(parents=True)
    (tmp_path / "without" / "s3fs" / "__init__.py").write_text("raise ImportError")
    environment = screen_environment()
    environment["PYTHONPATH"] = f"{tmp_path / 'without'}{os.pathsep}{environment['PYTHONPATH']}"
    ended = subprocess.run(
        [sys.executable, "-m", "worker", "backfill", "s3://films/2019"],
        cwd=site.root, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "pip install 'cxr-screen[s3]'" in ended.stderr
