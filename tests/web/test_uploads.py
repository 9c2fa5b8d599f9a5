"""Films that are sent lie in the inbox, whole and under a safe name, or nothing of them is kept."""

import asyncio
import errno
import fcntl
import os
import shutil
import stat
import subprocess
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import sha256
from tests.web.conftest import configure
from worker.intake.deliver import Parcel, remove_abandoned, safe_name
from worker.intake.names import is_temporary
from worker.marks import keep_marks

HOSTILE = [
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    "...",
    ".",
    "",
    "a\0b.dcm",
    "two\nlines.jpg",
    "\u202egpj.mcd",
    "x" * 300,
    "ä" * 300 + ".dcm",
    "film." + "ß" * 9,
    "film." + "\U0001f9bb" * 10,
    ".part",
    "film.part",
    "FILM.PART",
    "~",
    "~$film.dcm",
    ". .film.dcm",
    "film.dcm~",
    "Thumbs.db",
    "icon\r",
    "C:\\films\\chest.dcm",
    "..\\..\\chest.dcm",
    "film.dcm:Zone.Identifier",
    "film\uf03azone.identifier",
    " ",
    "\u3000\u3000",
    ".site",
    ".lock",
    "-rf",
    "<script>alert(1)</script>.jpg",
    "{{7*7}}.dcm",
]


def lying(desk):
    """name → content of all that the worker would take."""
    return {path.name: path.read_bytes() for path in desk.site.inbox.iterdir()}


@pytest.fixture(scope="module")
def shared(new_desk, open_room):
    made = new_desk()
    return made, open_room(made.config)


@pytest.fixture
def emptied(shared):
    """A site and its room, for tests that send films and change nothing else."""
    for path in shared[0].site.inbox.iterdir():
        path.unlink()
    return shared


def is_safe(name):
    return (
        "/" not in name
        and name not in ("", ".", "..")
        and name.isprintable()
        and not is_temporary(name)
        and len(os.fsencode(name)) <= 200
    )


@given(st.text(max_size=400) | st.sampled_from(HOSTILE))
def test_every_name_becomes_one_that_the_worker_takes(name):
    assert is_safe(safe_name(name))


@given(st.sampled_from(HOSTILE))
def test_a_safe_name_stays_as_it_is(name):
    assert safe_name(safe_name(name)) == safe_name(name)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_in_the_inbox(emptied, name):
    desk, room = emptied
    before = set(desk.config.root.rglob("*"))
    answer = room.post(f"/api/films?name={quote(name, safe='')}", content=b"a film")
    assert answer.status_code == 201
    said = answer.json()
    assert lying(desk) == {said["name"]: b"a film"}
    assert is_safe(said["name"])
    assert said == said | {"sha256": sha256(b"a film"), "size": 6}
    new = set(desk.config.root.rglob("*")) - before
    assert {path.parent for path in new if "screen.db" not in path.name} == {desk.site.inbox}


@pytest.mark.parametrize("raw", ["%ed%a0%80.dcm", "%ff%fe.dcm", "%c0%ae%c0%ae%2fx", "%00", "a%2fb"])
def test_names_that_are_no_text_stay_in_the_inbox(emptied, raw):
    desk, room = emptied
    answer = room.post(f"/api/films?name={raw}", content=b"a film")
    assert (answer.status_code, list(lying(desk))) == (201, [answer.json()["name"]])
    assert is_safe(answer.json()["name"])


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_a_form(emptied, name):
    desk, room = emptied
    head = f'--xx\r\nContent-Disposition: form-data; name="films"; filename="{name}"\r\n\r\n'
    body = head.encode("utf-8", "surrogatepass") + b"a film\r\n--xx--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=xx"}
    answer = room.post("/upload", content=body, headers=kind)
    assert answer.status_code in (303, 400)
    assert all(is_safe(each) for each in lying(desk))
    assert list(lying(desk).values()) == (
        [b"a film"] if "received=1" in str(answer.headers) else []
    )


def test_a_name_of_a_thousand_characters_is_the_longest(emptied):
    _, room = emptied
    assert room.post(f"/api/films?name={'x' * 1001}", content=b"a film").status_code == 422


def test_a_film_arrives_byte_for_byte_with_the_mode_of_the_site(desk, open_room):
    room = open_room(configure(desk.config, site={"file_mode": "0600"}))
    film = os.urandom(3 << 20)
    answer = room.post("/api/films?name=chest.dcm", content=film)
    said = {"name": "chest.dcm", "sha256": sha256(film), "size": len(film), "after": 0}
    assert answer.json() == said
    assert lying(desk) == {"chest.dcm": film}
    assert stat.S_IMODE((desk.site.inbox / "chest.dcm").stat().st_mode) == 0o600


def test_a_form_brings_several_films(emptied):
    desk, room = emptied
    files = [("films", (name, content)) for name, content in (("a.jpg", b"A"), ("b.jpg", b"B"))]
    answer = room.post("/upload", files=files)
    assert (answer.status_code, answer.headers["location"]) == (303, "/?received=2")
    assert lying(desk) == {"a.jpg": b"A", "b.jpg": b"B"}
    assert "2 films received" in room.get("/?received=2").text


def test_a_form_without_films_is_no_mistake(emptied):
    desk, room = emptied
    answer = room.post("/upload", files=[("films", ("", b""))])
    assert (answer.headers["location"], lying(desk)) == ("/?received=0", {})


def test_films_of_one_name_do_not_overwrite(emptied):
    desk, room = emptied
    names = [
        room.post("/api/films?name=chest.dcm", content=bytes([number])).json()["name"]
        for number in range(3)
    ]
    assert names == ["chest.dcm", "chest-2.dcm", "chest-3.dcm"]
    assert [lying(desk)[name] for name in names] == [b"\0", b"\1", b"\2"]


@pytest.mark.databases
def test_the_worker_screens_what_was_sent(desk, room):
    sent = room.post("/api/films?name=chest.jpg", content=b"a film").json()
    asked = f"/api/films?sha256={sent['sha256']}"
    assert room.get(asked).json() == [{"sha256": sent["sha256"], "result": None}]
    desk.work()
    (said,) = room.get(asked).json()
    assert said["result"]["file"].endswith("chest.jpg")
    assert desk.names("inbox") == []


# What is refused


def test_an_empty_film_is_refused(emptied):
    desk, room = emptied
    assert room.post("/api/films", content=b"").status_code == 400
    assert lying(desk) == {}


@pytest.mark.parametrize("length", ["", "many", "-1", "1_0", "²"])
def test_a_length_must_be_said(emptied, length):
    _, room = emptied
    headers = {"Content-Length": length.encode("latin-1")}
    assert room.post("/api/films", headers=headers, content=b"film").status_code == 411


def test_a_film_without_length_is_refused(emptied):
    desk, room = emptied
    assert room.post("/api/films", content=iter([b"a", b"film"])).status_code == 411
    assert lying(desk) == {}


@pytest.mark.parametrize("honest", [True, False])
def test_a_film_that_is_too_large_is_refused(desk, open_room, honest):
    room = open_room(configure(desk.config, decode={"max_file_mb": 1}))
    length = str((1 << 20) + 1 if honest else 5)
    answer = room.post(
        "/api/films", headers={"Content-Length": length}, content=b"x" * ((1 << 20) + 1)
    )
    assert (answer.status_code, lying(desk)) == (413, {})
    assert "max_file_mb" in answer.json()["message"]


def test_a_form_says_how_many_films_came_before_the_one_that_did_not(desk, open_room):
    room = open_room(configure(desk.config, decode={"max_file_mb": 1}))
    contents = (b"A", b"x" * ((1 << 20) + 1), b"C")
    files = [("films", (f"{n}.jpg", content)) for n, content in enumerate(contents)]
    answer = room.post("/upload", files=files, headers={"Accept": "text/html"})
    assert (answer.status_code, lying(desk)) == (413, {"0.jpg": b"A"})
    assert "the first 1 were received, the others not" in answer.text


def test_too_many_a_minute(desk, open_room):
    room = open_room(configure(desk.config, serve={"uploads_per_minute": 3}))
    codes = [room.post("/api/films", content=b"film").status_code for _ in range(4)]
    assert codes == [201, 201, 201, 429]
    assert len(lying(desk)) == 3


def test_a_form_with_more_films_than_a_minute_allows_brings_none(desk, open_room):
    """It brought the first ones, and did not say how many."""
    room = open_room(configure(desk.config, serve={"uploads_per_minute": 3}))
    films = [("films", (f"{n}.jpg", b"film")) for n in range(4)]
    answer = room.post("/upload", files=films)
    assert (answer.status_code, lying(desk)) == (413, {})  # no wait would ever help


@pytest.mark.parametrize("step", ["write", "deliver"])
@pytest.mark.parametrize(
    ("number", "status"), [(errno.ENOSPC, 507), (errno.EDQUOT, 507), (errno.EIO, 503)]
)
def test_what_the_disk_refuses_is_not_kept(emptied, monkeypatch, step, number, status):
    desk, room = emptied

    def refuse(*_):
        raise OSError(number, os.strerror(number), "/secret")

    monkeypatch.setattr(Parcel, step, refuse)
    answer = room.post("/api/films", content=b"film")
    assert (answer.status_code, lying(desk)) == (status, {})
    assert "secret" not in answer.text


@pytest.mark.usefixtures("may_mount")
@pytest.mark.slow
def test_a_full_disk_keeps_nothing(desk, room):
    point = desk.site.inbox
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(point)], check=True)
    try:
        for path in ("/api/films", "/upload"):
            if path == "/upload":
                answer = room.post(path, files=[("films", ("a.jpg", b"x" * (2 << 20)))])
            else:
                answer = room.post(path, content=b"x" * (2 << 20))
            assert (answer.status_code, lying(desk)) == (507, {})
    finally:
        subprocess.run(["umount", str(point)], check=True)


def test_a_share_that_is_gone_gets_no_films(desk, room):
    with desk.database() as engine:
        keep_marks(desk.site, engine, desk.now)
    (desk.site.work / ".site").unlink()
    answer = room.post("/api/films", content=b"film")
    assert (answer.status_code, lying(desk)) == (503, {})
    assert "mount it" in answer.json()["message"]


def test_an_inbox_that_is_gone_gets_no_films(desk, room):
    shutil.rmtree(desk.site.inbox)
    assert room.post("/api/films", content=b"film").status_code == 503
    assert room.get("/").status_code == 200


def test_a_sender_that_breaks_off_leaves_nothing(emptied):
    """ASGI as servers speak it: a piece, then the connection is gone."""
    desk, room = emptied
    messages = [
        {"type": "http.request", "body": b"half a f", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive():
        return messages.pop(0) if messages else await asyncio.sleep(60)

    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-length", b"20")]
    scope = {"type": "http", "method": "POST", "path": "/api/films", "headers": headers}
    scope |= {
        "query_string": b"",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
    }
    room.portal.call(room.app, scope, receive, send)
    assert (sent, lying(desk), messages) == ([], {}, [])


# What a killed server left


def test_abandoned_parts_are_removed_and_living_ones_are_not(desk):
    inbox = desk.site.inbox
    with Parcel(inbox, 0o640) as living:
        living.write(b"half")
        (inbox / ".upload-dead.part").write_bytes(b"half")
        (inbox / ".upload-other").write_bytes(b"not ours")
        assert remove_abandoned(inbox) == 1
        assert living.deliver("chest.dcm").name == "chest.dcm"
    assert lying(desk) == {"chest.dcm": b"half", ".upload-other": b"not ours"}


def test_what_only_looks_like_a_part_does_not_hold_the_server_up(desk, tmp_path):
    """A pipe held it up for ever; a link led to a file elsewhere."""
    inbox, elsewhere = desk.site.inbox, tmp_path / "elsewhere"
    elsewhere.write_bytes(b"x")
    os.mkfifo(inbox / ".upload-pipe.part")
    (inbox / ".upload-link.part").symlink_to(elsewhere)
    (inbox / ".upload-gone.part").symlink_to(tmp_path / "nothing")
    (inbox / ".upload-folder.part").mkdir()
    remove_abandoned(inbox)
    assert elsewhere.read_bytes() == b"x"
    assert (inbox / ".upload-folder.part").is_dir()


def test_a_part_that_is_delivered_while_it_is_looked_at_is_not_lost(desk, monkeypatch):
    parcel, real = Parcel(desk.site.inbox, 0o640), fcntl.flock

    def deliver_first(file, operation):
        with monkeypatch.context() as as_it_was:
            as_it_was.setattr(fcntl, "flock", real)
            parcel.write(b"film")
            parcel.deliver("chest.dcm")
            parcel.__exit__()
        return real(file, operation)

    monkeypatch.setattr(fcntl, "flock", deliver_first)
    remove_abandoned(desk.site.inbox)
    assert lying(desk) == {"chest.dcm": b"film"}


def test_a_share_without_locks_leaves_nothing_behind(tmp_path, monkeypatch):
    """Each attempt left a part that no server removed."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("worker.intake.deliver.fcntl.flock", refuse)
    with pytest.raises(OSError, match="no locks"):
        Parcel(tmp_path, 0o640)
    assert list(tmp_path.iterdir()) == []
