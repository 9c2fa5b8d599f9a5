"""Many films from DCMTK and Orthanc, with kills on either side: none acknowledged is lost."""

import json
import random
import subprocess
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.interop.peers import Receive, content_of, films, free_port, uid_of, wait_until


def uids(paths: Iterable[Path]) -> set[str]:
    """SOP instance UIDs of what has a film's name."""
    return {path.stem.partition("-")[0] for path in paths if not path.name.startswith(".")}


def contents(paths: Iterable[Path]) -> set[tuple[str, bytes]]:
    """UIDs and pixels of what has a film's name, each once; a half film fails here."""
    return {content_of(path) for path in paths if not path.name.startswith(".")}


def send_all(folder: Path, port: int, log: Path) -> "subprocess.Popen[bytes]":
    """Storescu sends what it was not told has arrived; it renames to .done what has."""
    waiting = sorted(folder.glob("*.dcm"))
    with log.open("ab") as said:
        return subprocess.Popen(
            ["storescu", "+rn", "-aec", "SCREEN", "127.0.0.1", str(port), *map(str, waiting)],
            stdout=said,
            stderr=said,
        )


def put_bad_back(folder: Path) -> None:
    for path in folder.glob("*.dcm.bad"):
        path.rename(path.with_suffix(""))


@pytest.mark.usefixtures("dcmtk")
@pytest.mark.parametrize(
    ("count", "kills"), [(30, 1), pytest.param(1000, 3, marks=pytest.mark.slow)]
)
def test_storescu_and_a_receiver_that_is_killed(count, kills, configured, inbox, started, tmp_path):
    config, port = configured(), free_port()
    folder = tmp_path / "films"
    made = films(folder, count)
    expected, given = contents(made), {path.name: uid_of(path) for path in made}
    rng = random.Random(count)
    for kill in range(kills + 1):
        program = started(Receive, config.root, port)
        sender = send_all(folder, port, tmp_path / "storescu.log")
        if kill < kills:
            enough = len(inbox()) + rng.randrange(1, count // (kills + 1) + 2)
            wait_until(lambda: len(inbox()) >= enough or sender.poll() is not None, 60)  # noqa: B023
            if rng.random() < 0.3:
                sender.kill()
            program.kill()
        sender.wait(60)
        put_bad_back(folder)
        acknowledged = {given[path.with_suffix("").name] for path in folder.glob("*.done")}
        assert acknowledged <= uids(inbox())
    assert contents(inbox()) == expected
    assert not [path for path in inbox() if path.name.startswith(".")]
    assert len(inbox()) <= count + kills  # only what was in hand at a kill came twice


@pytest.mark.parametrize(
    ("count", "kills"), [(20, 0), pytest.param(1000, 2, marks=pytest.mark.slow)]
)
def test_orthanc_sends_its_films(count, kills, configured, inbox, started, orthanc, tmp_path):
    config, port = configured(), free_port()
    program, peer = started(Receive, config.root, port), orthanc(port)
    given = films(tmp_path / "films", count)
    for film in given:
        peer.rest("/instances", film.read_bytes())
    held = peer.rest("/instances?expand")
    ids = {one["MainDicomTags"]["SOPInstanceUID"]: one["ID"] for one in held}
    assert len(ids) == count
    for round_ in range(kills + 1):
        missing = [ids[uid] for uid in ids.keys() - uids(inbox())]
        asking = threading.Thread(target=store, args=(peer, missing))
        asking.start()
        if round_ < kills:
            enough = len(inbox()) + count // (kills + 2)
            wait_until(lambda: len(inbox()) >= enough or not asking.is_alive(), 60)  # noqa: B023
            if round_ % 2:
                peer.kill()
                peer = orthanc(port)
            else:
                program.kill()
                program = started(Receive, config.root, port)
        asking.join(120)
    wait_until(lambda: uids(inbox()) == ids.keys(), 60)  # restarted, it takes up its job by itself
    assert contents(inbox()) == contents(given)
    peer.kill()
    wait_until(lambda: not [path for path in inbox() if path.name.startswith(".")])


def store(peer, ids: list[str]) -> None:
    """Have Orthanc send these; what came of it the inbox says."""
    body = json.dumps({"Synchronous": True, "Resources": ids})
    with suppress(OSError):  # one of us was killed
        peer.rest("/modalities/screen/store", body.encode())
