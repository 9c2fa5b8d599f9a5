"""The pulse says truly what the worker does; systemd hears it; nothing of it stops the worker."""

import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from worker.heartbeat import Heartbeat, Notifier, judge, pulse_file, read_pulse
from worker.site import hold_site


class Clock:
    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def file(tmp_path):
    return pulse_file(tmp_path / "screen.db")


@pytest.fixture
def heart(file, clock, noon):
    return Heartbeat(file, 7, notifier=Notifier({}), now=clock, clock=lambda: noon)


def test_a_beat_can_be_read_back(heart, file):
    heart.beat("working", finished=3)
    pulse = read_pulse(file)
    assert (pulse.pid, pulse.run, pulse.state, pulse.finished) == (os.getpid(), 7, "working", 3)
    assert pulse.since == "2026-05-03T12:00:00+00:00"
    assert file.name == "screen.db.worker"
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_file_keeps_its_length_and_place_so_that_it_can_be_written_on_a_full_disk(heart, file):
    heart.beat("starting")
    before = file.stat()
    heart.beat("paused", cause="no space left on device " * 100)
    after = file.stat()
    assert (after.st_size, after.st_ino) == (before.st_size, before.st_ino)
    assert read_pulse(file).cause.startswith("no space left")


def test_a_cause_full_of_odd_characters_still_fits(heart, file):
    heart.beat("paused", cause="\U0001f480" * 200)
    assert read_pulse(file).state == "paused"
    assert file.stat().st_size == 1024


def test_beats_are_written_once_a_second_and_at_once_when_the_state_changes(heart, file, clock):
    heart.beat("idle", finished=1)
    clock.seconds += 0.5
    heart.beat("idle", finished=2)
    assert read_pulse(file).finished == 1
    heart.beat("working")
    assert (read_pulse(file).state, read_pulse(file).finished) == ("working", 3)
    clock.seconds += 1
    heart.beat("working", finished=5)
    assert read_pulse(file).finished == 8


def test_a_heart_that_cannot_write_stops_nothing_and_complains_once(tmp_path, clock, caplog):
    heart = Heartbeat(tmp_path / "gone" / "x", 1, notifier=Notifier({}), now=clock)
    for _ in range(3):
        heart.beat("working")
        clock.seconds += 2
    assert len(caplog.records) == 1


def test_a_beating_worker_is_healthy(heart, file, clock):
    heart.beat("working", finished=4)
    found = judge(read_pulse(file), clock() + 5, 120)
    assert (found.healthy, found.state, found.age_s) == (True, "working", 5)
    assert "4 files finished in run 7" in found.words


def test_a_worker_without_a_sign_of_life_hangs(heart, file, clock):
    heart.beat("working")
    found = judge(read_pulse(file), clock() + 121, 120)
    assert (found.healthy, found.state) == (False, "hangs")


def test_a_paused_worker_is_healthy_unless_one_is_strict(heart, file, clock):
    heart.beat("paused", cause="No space left on device")
    pulse = read_pulse(file)
    found = judge(pulse, clock(), 120)
    assert found.healthy
    assert "paused since 2026-05-03T12:00:00+00:00 because: No space left" in found.words
    assert not judge(pulse, clock(), 120, strict=True).healthy


def test_a_worker_that_ended_is_gone(file):
    code = (
        "import sys; from pathlib import Path; from worker.heartbeat import Heartbeat\n"
        "Heartbeat(Path(sys.argv[1]), 1).beat('working')"
    )
    subprocess.run([sys.executable, "-c", code, file], check=True)
    found = judge(read_pulse(file), time.monotonic(), 120)
    assert (found.healthy, found.state) == (False, "gone")


@pytest.mark.parametrize("field", ["boot_id", "process_started"])
def test_another_process_of_the_same_number_is_not_the_worker(heart, file, clock, field):
    heart.beat("working")
    values = json.loads(file.read_bytes())
    values[field] = "another boot" if field == "boot_id" else values[field] + 1
    file.write_text(json.dumps(values))
    assert judge(read_pulse(file), clock(), 120).state == "gone"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff" * 100])
def test_what_is_no_pulse_is_none(file, content):
    file.write_bytes(content)
    assert read_pulse(file) is None


def test_without_a_pulse_nobody_is_healthy(file):
    assert read_pulse(file) is None
    assert not judge(None, 0, 120).healthy


# systemd


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    """A socket as systemd has it: its address for $NOTIFY_SOCKET, and what it heard."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = str(tmp_path / "notify") if request.param == "path" else f"@screen-{os.getpid()}"
        listening.bind("\0" + name[1:] if name.startswith("@") else name)
        listening.setblocking(False)

        def heard():
            messages = []
            while True:
                try:
                    messages += listening.recv(4096).decode().split("\n")
                except BlockingIOError:
                    return messages

        yield name, heard


def test_systemd_hears_when_it_is_ready_what_it_does_and_when_it_stops(systemd, file, clock):
    address, heard = systemd
    heart = Heartbeat(file, 1, notifier=Notifier({"NOTIFY_SOCKET": address}), now=clock)
    heart.beat("starting")
    assert heard() == ["STATUS=starting"]
    heart.beat("idle")
    assert heard() == ["STATUS=idle", "READY=1"]
    heart.beat("paused", cause="No space left\non device")
    assert heard() == ["STATUS=paused: No space left?on device"]
    heart.beat("stopping")
    assert heard() == ["STATUS=stopping", "STOPPING=1"]


def test_the_watchdog_is_fed_at_a_quarter_of_its_time(systemd, file, clock):
    address, heard = systemd
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "120000000"}
    heart = Heartbeat(file, 1, notifier=Notifier(environment), now=clock)
    fed = []
    for _ in range(100):
        heart.beat("idle")
        fed.append("WATCHDOG=1" in heard())
        clock.seconds += 1
    assert [second for second, each in enumerate(fed) if each] == [0, 30, 60, 90]


def test_a_watchdog_for_another_process_is_not_fed(systemd, file, clock):
    address, heard = systemd
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    Heartbeat(file, 1, notifier=Notifier(environment), now=clock).beat("idle")
    assert "WATCHDOG=1" not in heard()


def test_nobody_at_the_socket_stops_nothing(file, tmp_path):
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "none"), "WATCHDOG_USEC": "1000000"})
    Heartbeat(file, 1, notifier=notifier).beat("idle")
    assert read_pulse(file).state == "idle"


# The command


def test_health_is_one_line_and_an_exit_code(site, screen):
    nobody = screen("health", cwd=site.root)
    assert (nobody.returncode, nobody.stdout.count("\n")) == (1, 1)
    heart = Heartbeat(pulse_file(site.database.file), 1)
    heart.beat("paused", cause="No space left on device")
    ended = screen("health", cwd=site.root)
    assert ended.returncode == 0
    assert ended.stdout.startswith("healthy: paused since")
    assert screen("health", "--strict", cwd=site.root).returncode == 1


def test_health_as_json_holds_the_pulse(site, screen):
    Heartbeat(pulse_file(site.database.file), 5).beat("idle", finished=2)
    found = json.loads(screen("health", "--json", cwd=site.root).stdout)
    assert (found["healthy"], found["state"], found["pulse"]["finished"]) == (True, "idle", 2)
    assert datetime.fromisoformat(found["pulse"]["at"]).tzinfo == UTC


def test_health_waits_for_no_heavy_import(site, repository):
    code = (
        "import sys; from worker.cli.main import main; sys.argv[1:] = ['health']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'cv2', 'numpy', 'sqlalchemy', 'pydicom'} & sys.modules.keys()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=site.root,
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.endswith("[]\n")


def test_status_shows_what_the_worker_does_and_what_it_leaves_alone(site, screen):
    with hold_site(site):
        heart = Heartbeat(pulse_file(site.database.file), 5)
        heart.beat("paused", cause="No space left on device")
        for name in ("film.jpg", "half.jpg.part"):
            (site.site.inbox / name).touch()
        said = screen("status", cwd=site.root).stdout
    assert "paused since" in said
    assert "because: No space left on device" in said
    assert "1 files; left alone: 1 of kind temporary name" in said
