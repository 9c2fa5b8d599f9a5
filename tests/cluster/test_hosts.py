"""Hosts that share a site: one is cut off from the database, and comes back."""

import os
import random
import shutil
import signal
import socket
import time

import pytest
from sqlalchemy import make_url, text

from tests.cluster.field import LEASE_S, SETTINGS, Field
from tests.cluster.hosts import hosts
from tests.cluster.victim import live
from tests.postgres import running_server
from tests.torture.films import Kind
from tests.torture.sweep import fork
from worker.config import load_config
from worker.store.database import open_database, upgrade

_LINK = "connect_timeout=2&tcp_user_timeout=2000"  # so that the test need not wait for long
_PATIENCE_S = 150.0


@pytest.fixture
def three_hosts():
    if shutil.which("ip") is None:
        pytest.skip("Debian's package iproute2 is not installed")
    with hosts(3) as made:
        yield made


@pytest.fixture
def cluster(three_hosts, tmp_path):
    """A site of three hosts: folders on a share, a configuration and a state on each."""
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    with running_server(port) as server, server.database() as url:
        yield Cluster(tmp_path, url, three_hosts, port)


class Cluster:
    def __init__(self, folder, url, made, port):
        self.field, self.hosts, self.pids = Field(folder, url, random.Random(4)), made, {}
        self.engine = open_database(load_config(self.field.root / "config.toml").database)
        upgrade(self.engine)
        self.engine.dispose()  # no worker may inherit a connection
        for host in made:
            own = folder / host.name
            own.mkdir()
            at = f"postgresql://screen@{host.server}:{port}/{make_url(url).database}?{_LINK}"
            names = ("inbox", "work", "done", "failed", "reports")
            shared = "\n".join(f'{name} = "{self.field.root / name}"' for name in names)
            settings = SETTINGS.format(lease_s=LEASE_S, url=at)
            (own / "config.toml").write_text(f"[site]\n{shared}\n{settings}")
            self.pids[host.name] = fork(lambda host=host, own=own: self._live(host, own))

    def _live(self, host, own):
        host.enter()
        return live(own, self.field.scratch)

    def office_holder(self):
        """The host that takes films in."""
        asked = (
            "SELECT pid FROM workers WHERE 'screen: office of worker ' || id IN (SELECT"
            " application_name FROM pg_stat_activity JOIN pg_locks USING (pid)"
            " WHERE locktype = 'advisory' AND granted)"
        )
        with self.engine.connect() as connection:
            pids = set(connection.scalars(text(asked)))
        return next((host for host in self.hosts if self.pids[host.name] in pids), None)

    def screened_by(self, host):
        """How many films the worker of a host has brought to their end."""
        asked = "SELECT count(*) FROM files JOIN workers ON workers.id = worker_id WHERE pid = :pid"
        with self.engine.connect() as connection:
            found = text(asked + " AND finished_at IS NOT NULL")
            return connection.scalar(found, {"pid": self.pids[host.name]})

    def end(self):
        for pid in self.pids.values():
            os.kill(pid, signal.SIGTERM)
        ends = [os.waitpid(pid, 0)[1] for pid in self.pids.values()]
        self.engine.dispose()
        return ends


def wait_until(true, what):
    deadline = time.monotonic() + _PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"not within {_PATIENCE_S} s: {what}"
        time.sleep(0.1)


@pytest.mark.slow
def test_the_films_of_a_host_that_is_cut_off_go_to_others_and_it_comes_back(cluster):
    field = cluster.field
    try:
        field.feed(30, [Kind.KILLER])  # nobody would start the workers again
        wait_until(cluster.office_holder, "somebody takes films in")
        wait_until(lambda: field.put_away() > 5, "films are screened")
        cut = cluster.office_holder()
        cut.cut()
        field.feed(30, [Kind.KILLER])
        wait_until(field.is_over, "the others screen everything, and one takes films in")
        assert cluster.office_holder() not in (None, cut)
        before = cluster.screened_by(cut)
        cut.mend()

        def takes_part():
            field.feed(4, [Kind.KILLER])
            return cluster.screened_by(cut) > before

        wait_until(takes_part, "the host that was cut off screens again")
        wait_until(field.is_over, "everything is screened")
    finally:
        ends = cluster.end()
    assert ends == [0, 0, 0]
    assert field.verdict() == []
