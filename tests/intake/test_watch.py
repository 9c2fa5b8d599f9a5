"""Events only wake: whatever becomes of them, the daemon goes on scanning."""

import errno
import logging
import os
import subprocess
import threading

import pytest

from worker.intake import watch
from worker.intake.watch import Watcher


@pytest.fixture
def wake():
    return threading.Event()


@pytest.fixture
def watcher(films, wake):
    found = Watcher(films, "native", wake)
    yield found
    found.stop()
    subprocess.run(["chmod", "-R", "u+rwx", films], check=True)
    subprocess.run(["rm", "-rf", films], check=True)


def test_a_film_wakes(watcher, films):
    (films / "film.jpg").write_bytes(b"film")
    assert watcher.wait(30)


def test_reading_wakes_nobody(films, wake):
    """Our own scans and hashes would wake us again and again."""
    (films / "film.jpg").write_bytes(b"film")
    watcher = Watcher(films, "native", wake)
    (films / "film.jpg").read_bytes()
    list(films.iterdir())
    assert not watcher.wait(0.2)
    watcher.stop()


def test_polling_needs_no_observer(films, wake):
    """Watchdog's own followed links out of the inbox, and in circles."""
    (films / "root").symlink_to("/")
    watcher = Watcher(films, "polling", wake)
    assert threading.active_count() == 1 or watcher._observer is None
    assert not watcher.wait(0.01)
    watcher.stop()


def test_deep_trees_links_and_closed_folders_do_not_end_the_watch(watcher, films):
    descriptor = os.open(films, os.O_RDONLY)
    for _ in range(40):  # longer than a path may be
        os.mkdir("d" * 200, dir_fd=descriptor)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    (films / "loop").symlink_to(films)
    (films / "closed").mkdir(mode=0)
    watcher.wait(5)
    (films / "film.jpg").write_bytes(b"film")
    assert watcher.wait(30)
    assert watcher._observer.is_alive()


def test_an_observer_that_cannot_start_is_said_once(films, wake, monkeypatch, caplog):
    """At each turn of the daemon it was said again: thousands of lines a night."""

    class Refusing:
        def schedule(self, *_, **__):
            raise OSError(errno.ENOSPC, "inotify watch limit reached", "/inbox/Jane")

    monkeypatch.setattr(watch, "Observer", Refusing)
    with caplog.at_level(logging.INFO):
        watcher = Watcher(films, "native", wake)
        for _ in range(5):
            watcher.ensure()
    assert [record.getMessage() for record in caplog.records] == [
        "no events from the inbox: scanning at intervals"
    ]


def test_an_observer_that_died_is_started_again(watcher, films, caplog):
    watcher._observer.stop()
    watcher._observer.join(30)
    watcher.ensure()
    (films / "film.jpg").write_bytes(b"film")
    assert watcher.wait(30)
    assert "started again" in caplog.text
