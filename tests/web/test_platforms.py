"""The door for platforms, asked over HTTP as Amazon SageMaker and Hugging Face Spaces ask."""

import base64
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import sha256
from tests.web.conftest import TOKEN
from tests.web.server import Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def path_with_screen(tmp_path_factory):
    """A PATH on which `screen` is this checkout's."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "screen"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m worker "$@"\n')
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture(scope="module")
def door(repository, path_with_screen, tmp_path_factory):
    """`docker run IMAGE serve`, without the container."""
    folder = tmp_path_factory.mktemp("door")
    command = [str(repository / "deploy" / "start"), "serve"]
    server = Server(
        command=command, cwd=folder, environment={"PATH": path_with_screen}, log=folder / "log"
    )
    server.wait()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def films(sample_films):
    return sorted(path for path in sample_films.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def truth(films, screen, tmp_path_factory):
    """What `screen classify --json` says, by SHA-256, without names."""
    ended = screen("classify", "--json", *films, cwd=tmp_path_factory.mktemp("truth"))
    return {
        each["sha256"]: without_name(each) for each in map(json.loads, ended.stdout.splitlines())
    }


def plain(record):
    return {key: value for key, value in record.items() if key != "file"}


def without_name(record):
    """What must be the same whatever the film is called; the order of sums moves last digits."""
    return {
        key: pytest.approx(value, rel=1e-4) if isinstance(value, float) else value
        for key, value in record.items()
        if key != "file"
    }


def ask(door, content, kind):
    return door.client.post("/invocations", content=content, headers={"Content-Type": kind})


def test_twenty_at_once_are_answered_as_screen_classify_answers(door, films, truth):
    with ThreadPoolExecutor(20) as pool:
        contents = [path.read_bytes() for path in [*films, *films[:4]]]
        answers = list(pool.map(lambda content: ask(door, content, "image/jpeg"), contents))
    assert {answer.status_code for answer in answers} == {200}
    said = [answer.json() for answer in answers]
    assert [each["sha256"] for each in said] == [sha256(content) for content in contents]
    assert [plain(each) for each in said] == [truth[each["sha256"]] for each in said]


@pytest.mark.parametrize(
    "kind",
    ["application/octet-stream", "application/x-image", "image/png", "IMAGE/JPEG; charset=x"],
)
def test_content_types_of_films(door, films, truth, kind):
    answer = ask(door, films[0].read_bytes(), kind)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert plain(answer.json()) == truth[answer.json()["sha256"]]


def test_instances_are_answered_in_order(door, films, truth):
    contents = [path.read_bytes() for path in films[:3]] + [b"no film"]
    sent = [{"b64": base64.b64encode(c).decode(), "name": f"n{i}"} for i, c in enumerate(contents)]
    answer = ask(door, json.dumps({"instances": sent}).encode(), "application/json")
    said = answer.json()["predictions"]
    assert [each["file"] for each in said] == ["n0", "n1", "n2", "n3"]
    assert [plain(each) for each in said[:3]] == [truth[each["sha256"]] for each in said[:3]]
    assert (said[3]["decision"], said[3]["reason"]) == ("REFUSED", "not-a-film")


@pytest.mark.parametrize("content", [b"no film", b"\xff\xd8\xff\xe0half", b"DICM" * 50, b"{}"])
def test_what_cannot_be_read_is_refused_with_200(door, content):
    answer = ask(door, content, "application/octet-stream")
    assert (answer.status_code, answer.json()["decision"]) == (200, "REFUSED")
    assert answer.json()["reason"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"film", "text/csv", 415),
        (b"film", "", 415),
        (b"", "image/jpeg", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"instances": []}', "application/json", 400),
        (b'{"instances": [{}]}', "application/json", 400),
        (b'{"instances": [{"b64": "!"}]}', "application/json", 400),
        (b'{"instances": [{"b64": 7}]}', "application/json", 400),
        (b'{"instances": {"b64": "aaaa"}}', "application/json", 400),
        (b'{"instances": [' + b'{"b64": ""},' * 64 + b'{"b64": ""}]}', "application/json", 400),
        (b"[" * 200_000, "application/json", 400),
        (b"\xff\xfe\xfd", "application/json", 400),
    ],
)
def test_what_is_no_question_is_said_so(door, content, kind, status):
    answer = ask(door, content, kind)
    assert (answer.status_code, "message" in answer.json()) == (status, True)


def test_a_name_with_half_a_character_is_answered(door):
    body = b'{"instances": [{"b64": "YQ==", "name": "\\ud800"}]}'
    assert ask(door, body, "application/json").json()["predictions"][0]["file"] == "?"


def test_the_door_keeps_nothing_and_shows_nothing_else(door, repository):
    assert door.client.get("/ping").status_code == 200
    for path in ("/", "/api/films", "/reports/index.html", "/metrics"):
        assert door.client.get(path).status_code == 404


# A Docker Space


def test_a_space_makes_its_site_once_and_opens_with_the_secret(
    repository, path_with_screen, tmp_path
):
    home = tmp_path / "home"
    home.mkdir()
    environment = {"PATH": path_with_screen, "HOME": str(home), "SCREEN_TOKEN": TOKEN}
    environment["SCREEN_SITE"] = "/proc/nowhere/site"
    databases = []
    for start in range(2):
        server = Server(
            command=[str(repository / "deploy" / "start")],
            cwd=home,
            environment=environment,
            log=tmp_path / f"log{start}",
        )
        try:
            server.wait("/healthz")
            assert server.client.get("/api/results").status_code == 401
            headers = {"Authorization": f"Bearer {TOKEN}"}
            assert server.client.get("/api/results", headers=headers).status_code == 200
            health = health_command(repository)
            env = os.environ | {"PORT": str(server.port)}
            assert subprocess.run(health, env=env, check=False).returncode == 0
            assert "lost with the container" in server.said()
            databases.append((home / "site" / "screen.db").stat().st_ino)
            code, _ = server.end()
            assert code in (0, -15, 143), server.said()
        finally:
            server.kill()
    assert databases[0] == databases[1], "the site was made once"
    assert not (home / "site" / "serve.token").exists()
    assert TOKEN not in server.log.read_text()
    assert subprocess.run(health, env=env, check=False, stderr=subprocess.DEVNULL).returncode == 1


# The Containerfile


def instructions(repository):
    text = (repository / "deploy" / "Containerfile").read_text()
    lines = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [line.split(None, 1) for line in lines if line.strip()]


def health_command(repository):
    (said,) = (rest for name, rest in instructions(repository) if name == "HEALTHCHECK")
    command = json.loads(said[said.index("CMD") + 3 :])
    return [sys.executable, *command[1:]]


def test_the_containerfile_copies_what_is_there(repository):
    ignored = (repository / ".dockerignore").read_text().split()
    for name, rest in instructions(repository):
        if name == "COPY":
            for source in rest.split()[:-1]:
                assert (repository / source).exists(), source
                assert source not in ignored


def test_ports_are_the_same_everywhere(repository):
    defaults = tomllib.loads((repository / "config.toml").read_text())
    (exposed,) = (rest for name, rest in instructions(repository) if name == "EXPOSE")
    space = (repository / "deploy" / "space.md").read_text()
    start = (repository / "deploy" / "start").read_text()
    port = str(defaults["serve"]["port"])
    assert exposed == port == re.search(r"app_port: (\d+)", space)[1]
    assert f"PORT:-{port}" in start


def test_the_image_is_named_without_a_registry(repository):
    (image,) = (rest for name, rest in instructions(repository) if name == "FROM")
    assert "/" not in image
    assert stat.S_IXUSR & (repository / "deploy" / "start").stat().st_mode


def test_the_copied_files_make_a_wheel(repository, tmp_path):
    pytest.importorskip("hatchling", reason="the wheel is built with hatchling")
    for name, rest in instructions(repository):
        *sources, target = rest.split()
        if name == "COPY" and not target.startswith("/"):
            for source in sources:
                if (repository / source).is_dir():
                    shutil.copytree(repository / source, tmp_path / target)
                else:
                    shutil.copy(repository / source, tmp_path / source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", str(tmp_path / "out"), str(tmp_path)], check=True, timeout=240)
    assert list((tmp_path / "out").glob("*.whl"))
