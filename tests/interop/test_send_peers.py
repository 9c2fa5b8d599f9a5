"""Answers to DCMTK and Orthanc, with kills on either side: each arrives, under its own UID."""

import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime

import pytest

from tests.conftest import screen_environment
from tests.interop.peers import Process, answers, free_port, uid_of, wait_until
from tests.interop.workshop import FILM, film
from tests.security.conftest import real_site
from worker.interop.send import send_due
from worker.store.unsent import unsent

LATER = datetime(2100, 1, 1, tzinfo=UTC)


class Storescp(Process):
    """DCMTK's storage SCP, writing into a folder."""

    def __init__(self, folder, port):
        folder.mkdir(exist_ok=True)
        super().__init__(["storescp", "-od", folder, "-aet", "PACS", port], stdout=-3, stderr=-3)
        wait_until(lambda: answers(port))


@pytest.fixture
def node(configured):
    """A site that sends to a free port."""
    port = free_port()
    return configured(f'send_to = "PACS@127.0.0.1:{port}"\n'), port


@pytest.mark.usefixtures("dcmtk")
def test_storescp_gets_each_answer(node, outbox, started, tmp_path):
    config, port = node
    engine, uids = outbox(config, 5)
    started(Storescp, tmp_path / "pacs", port)
    assert send_due(config, engine).sent == 5
    assert sorted(map(uid_of, (tmp_path / "pacs").iterdir())) == sorted(uids)


@pytest.mark.usefixtures("dcmtk")
def test_watch_once_and_backfill_send_once_at_their_end(tmp_path, tiny_model, screen, started):
    config, port = real_site(tmp_path / "site", tiny_model), free_port()
    with (config.root / "config.toml").open("a") as file:
        file.write(f"[dicom]\nresults = ['sr']\nsend_to = 'PACS@127.0.0.1:{port}'\n")
    (config.site.inbox / "1.dcm").write_bytes(film())
    watched = screen("watch", "--once", cwd=config.root)
    assert watched.returncode == 0, watched.stderr
    assert "screen: 1 answers wait to be sent: 'screen send'" in watched.stderr
    pacs, archive = tmp_path / "pacs", tmp_path / "archive"
    started(Storescp, pacs, port)
    archive.mkdir()
    (archive / "2.dcm").write_bytes(film(SOPInstanceUID=f"{FILM}.2"))
    filled = screen("backfill", archive, cwd=config.root)
    assert filled.returncode == 0, filled.stderr
    assert len(list(pacs.iterdir())) == 1
    assert "screen: 1 answers wait" in filled.stderr  # the first, after its attempt
    (config.site.inbox / "3.dcm").write_bytes(film(SOPInstanceUID=f"{FILM}.3"))
    assert screen("watch", "--once", cwd=config.root).returncode == 0
    assert len(list(pacs.iterdir())) >= 2


@pytest.mark.usefixtures("dcmtk")
def test_a_node_that_freezes_is_given_up(node, outbox, started, tmp_path, monkeypatch):
    monkeypatch.setattr("worker.interop.call.ANSWER_S", 0.5)
    monkeypatch.setattr("worker.interop.call.NEGOTIATE_S", 0.5)
    monkeypatch.setattr("worker.interop.upperlayer.IDLE_S", 0.5)
    config, port = node
    engine, uids = outbox(config, 2)
    pacs = started(Storescp, tmp_path / "pacs", port)
    pacs.process.send_signal(signal.SIGSTOP)
    done = send_due(config, engine)
    pacs.process.send_signal(signal.SIGCONT)
    assert (done.sent, done.failed) == (0, 2)
    wait_until(lambda: send_due(config, engine, until=LATER).failed == 0)
    assert sorted(map(uid_of, (tmp_path / "pacs").iterdir())) == sorted(uids)


@pytest.mark.parametrize(
    ("count", "kills"), [(20, 1), pytest.param(250, 4, marks=pytest.mark.slow)]
)
def test_orthanc_and_a_sender_that_are_killed_in_turn(count, kills, configured, outbox, orthanc):
    peer = orthanc(1)
    config = configured(f'send_to = "ORTHANC@127.0.0.1:{peer.dicom}"\n')
    engine, uids = outbox(config, count)
    for kill in range(kills):
        sender = subprocess.Popen(
            [sys.executable, "-m", "worker", "send", "--all"],
            cwd=config.root,
            env=screen_environment(),
            stdout=subprocess.DEVNULL,
        )
        enough = len(peer.instances()) + count // (kills + 1)
        wait_until(lambda: len(peer.instances()) >= enough or sender.poll() is not None, 60)  # noqa: B023
        (sender if kill % 2 else peer).kill()
        sender.wait(60)
        if not kill % 2:
            peer = orthanc(1)
    marked = count - sum(number for _, number in unsent(engine))
    assert marked <= len(peer.instances())
    wait_until(lambda: send_due(config, engine, until=LATER).failed == 0)
    assert unsent(engine) == []
    assert Counter(peer.instances()) == Counter(uids)
