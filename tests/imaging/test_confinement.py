"""A film that takes its decoder over gains nothing, and costs nobody else anything."""

import hashlib
import importlib.util
import os
import signal
import socket
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.imaging.conftest import WAIT_S, error_of
from worker import doctor
from worker.errors import (
    CorruptFile,
    DecoderCrashed,
    DecoderTimeout,
    DecoderUnavailable,
    FilmError,
    TooLarge,
)
from worker.imaging import confine, kernel, landlock, prepare, process, sandbox, seccomp
from worker.imaging.decode import decode
from worker.imaging.limits import DecodeLimits
from worker.imaging.sandbox import DecoderPool, isolation

OBEDIENT = str(Path(__file__).with_name("obedient_child.py"))


@pytest.fixture
def obedient(settings, monkeypatch):
    """Make a pool of one child that films can take over; walls named are left out."""
    pools = []

    def make(*left_out, timeout_s=20):
        monkeypatch.setattr(process, "_CHILD", (OBEDIENT, *left_out))
        limits = DecodeLimits(memory_mb=512, timeout_s=timeout_s)
        pools.append(DecoderPool(settings, limits, processes=1))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def hostile(tmp_path):
    """Make a film that is code."""

    def make(code):
        path = tmp_path / f"hostile{len(list(tmp_path.iterdir()))}.dcm"
        path.write_text(f"#!\n{code}\n")
        return path

    return make


# What a film cannot do

REFUSED = {
    "read a file": "open('/etc/passwd')",
    "list a folder": "os.listdir('/')",
    "see a file": "os.stat('/etc/passwd')",
    "create a file": "os.open('{folder}/new', os.O_CREAT | os.O_WRONLY)",
    "read the database": "open('{folder}/screen.db', 'rb')",
    "write the database": "open('{folder}/screen.db', 'r+b')",
    "delete the database": "os.unlink('{folder}/screen.db')",
    "rename the database": "os.rename('{folder}/screen.db', '{folder}/gone')",
    "cut the database": "os.truncate('{folder}/screen.db', 0)",
    "make a folder": "os.mkdir('{folder}/new')",
    "change rights": "os.chmod('{folder}/screen.db', 0o777)",
    "change rights of its own film": "os.fchmod(request.film, 0o777)",
    "lock its own film": "fcntl.flock(request.film, 2)",
    "learn its own film's name": "os.readlink(f'/proc/self/fd/{{request.film}}')",
    "connect over TCP": "socket.socket().connect(('127.0.0.1', {port}))",
    "connect to a Unix socket": "socket.socket(socket.AF_UNIX).connect('{folder}/socket')",
    "make a pair of sockets": "socket.socketpair()",
    "listen": "socket.socket().bind(('127.0.0.1', 0))",
    "send to its parent": "requests.send(b'hello')",
    "run a program": "os.execv('/bin/true', ['/bin/true'])",
    "start a process": "os.fork()",
    "signal its parent": "os.kill({parent}, 0)",
    "signal all": "os.kill(-1, 0)",
    "limit its parent": "resource.prlimit({parent}, resource.RLIMIT_NOFILE, (1, 1))",
    "trace its parent": "kernel.syscall(101, 16, {parent}, 0, 0)",
    "read its parent's memory": "kernel.syscall(310, {parent}, 0, 0, 0, 0, 0)",
    "write its parent's memory": "kernel.syscall(311, {parent}, 0, 0, 0, 0, 0)",
    "mount": "kernel.syscall(165, 0, 0, 0, 0, 0)",
    "have a namespace of its own": "kernel.syscall(272, 0x10000000)",
    "use io_uring": "kernel.syscall(425, 1, 0)",
    "load BPF": "kernel.syscall(321, 0, 0, 0)",
    "use keys": "kernel.syscall(250, 0, 0, 0)",
    "make files in memory": "os.memfd_create('x')",
    "run what it wrote": "mmap.mmap(-1, 4096, prot=7)",
    "become dumpable": "kernel.prctl(4, 1)",
    "outlive its parent": "kernel.prctl(1, 0)",
}


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory):
    """What a film would like to reach: a database, sockets that listen, the parent."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "screen.db").write_bytes(b"SQLite format 3\0")
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "socket"))
        unix.listen()
        yield {"folder": folder, "port": tcp.getsockname()[1], "parent": os.getpid()}


def test_a_film_that_runs_code_is_refused_everything(obedient, hostile, surroundings, film):
    pool = obedient()
    for what, code in REFUSED.items():
        error = error_of(pool, hostile(code.format(**surroundings)))
        assert isinstance(error, CorruptFile), what
        assert str(error).startswith("refused: "), what
        assert pool.submit(film).result(WAIT_S).format == "JPEG", what
    assert (surroundings["folder"] / "screen.db").read_bytes() == b"SQLite format 3\0"


NOT_FOR_LANDLOCK = {  # these need the other wall, or harm the film alone
    "see a file", "change rights", "change rights of its own film", "lock its own film",
    "learn its own film's name", "connect to a Unix socket", "make a pair of sockets", "listen",
    "run a program", "start a process", "limit its parent", "have a namespace of its own",
    "use io_uring", "load BPF", "use keys", "make files in memory", "run what it wrote",
    "become dumpable", "outlive its parent", "signal all", "mount",
    "read its parent's memory", "write its parent's memory",  # of no bytes: ptrace's rights
}  # fmt: skip


def test_landlock_alone_keeps_files_and_processes(obedient, hostile, surroundings):
    pool = obedient("seccomp")
    for what in REFUSED.keys() - NOT_FOR_LANDLOCK:
        error = error_of(pool, hostile(REFUSED[what].format(**surroundings)))
        assert str(error).startswith("refused: "), what


@pytest.mark.slow
def test_seccomp_alone_refuses_everything(obedient, hostile, surroundings):
    pool = obedient("landlock")
    for what, code in REFUSED.items():
        error = error_of(pool, hostile(code.format(**surroundings)))
        assert str(error).startswith("refused: "), what


def test_without_any_wall_films_are_decoded_all_the_same(obedient, hostile, film):
    pool = obedient("seccomp", "landlock")
    assert pool.submit(film).result(WAIT_S).format == "JPEG"
    assert str(error_of(pool, hostile("open('/etc/passwd')"))) == "done"


# What a film that ends or harms its decoder costs

DEATHS = {
    "ctypes.string_at(0)": (DecoderCrashed, "signal 11"),
    "os.abort()": (DecoderCrashed, "signal 6"),
    "os._exit(3)": (DecoderCrashed, "exit status 3"),
    "os._exit(0)": (DecoderCrashed, "exit status 0"),
    "sys.exit(0)": (DecoderCrashed, "exit status 0"),
    "os.close(answers.fileno())": (DecoderCrashed, "exit status"),
    "signal.raise_signal(signal.SIGXCPU)": (DecoderTimeout, "CPU time"),
    "kernel._LIBC.free(8)": (DecoderCrashed, "signal"),
    "while True: pass": (DecoderTimeout, "within 2 s"),
    "time.sleep(1000)": (DecoderTimeout, "within 2 s"),
    "while True: os.write(answers.fileno(), b'x' * 65536)": (DecoderCrashed, "no sense"),
    "while True: os.write(answers.fileno(), b'{}' * 9 + b'\\n')": (DecoderCrashed, "no sense"),
    "os.write(answers.fileno(), b'[' * 60000 + b'\\n')": (DecoderCrashed, "no sense"),
    "x = [bytearray(1 << 20) for _ in range(1 << 20)]": (TooLarge, "memory_mb"),
    "x = bytearray(1 << 40)": (TooLarge, "memory_mb"),
}


@pytest.mark.slow
def test_a_film_that_ends_or_harms_its_decoder_costs_that_film_alone(obedient, hostile, film):
    pool = obedient(timeout_s=2)
    for code, (kind, words) in DEATHS.items():
        error = error_of(pool, hostile(code))
        assert type(error) is kind, (code, error)
        assert words in str(error), code
        assert pool.submit(film).result(WAIT_S).format == "JPEG", code


# What a film that speaks for others costs

FORGE = "wire.error_answer({token}, CorruptFile('forged'), False)"
MINE, OLD = FORGE.format(token="request.token"), FORGE.format(token="bytes(16)")


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(f"answers.write({MINE} * 2)", id="twice"),
        pytest.param(f"answers.write({MINE} + {OLD})", id="one for the next film"),
        pytest.param(f"answers.write({MINE} + b'x' * 100_000)", id="with more after it"),
        pytest.param(
            f"child._answer = lambda *_: (({OLD},), False)\nanswers.write({MINE})",
            id="and for every film after it",
        ),
    ],
)
def test_a_film_that_answers_for_others_is_found_out(obedient, hostile, film, code):
    pool = obedient()
    assert isinstance(error_of(pool, hostile(code)), FilmError)
    prepared = pool.submit(film).result(WAIT_S)
    assert prepared.sha256 == hashlib.sha256(film.read_bytes()).hexdigest()


def test_an_answer_that_lies_ready_before_the_question_is_thrown_away(obedient, hostile, film):
    """The answer without a question is there before the next film is handed over."""
    pool = obedient()
    later = "threading = sys.modules['threading']\n" + (
        f"t = threading.Timer(0.2, lambda: (answers.write({OLD}), answers.flush()))\nt.start()"
    )
    assert str(error_of(pool, hostile(later))) == "done"
    (pid,) = pool.pids()
    assert pool._feeders[0]._child._poll(WAIT_S)  # it has spoken
    assert pool.submit(film).result(WAIT_S).format == "JPEG"
    assert pool.pids() != [pid]


def test_a_film_that_never_answers_to_its_name_is_a_crash(obedient, hostile):
    pool = obedient()
    error = error_of(pool, hostile(f"answers.write({OLD})"))
    assert isinstance(error, DecoderCrashed)
    assert "was not asked" in str(error)


UNREADABLE = "answers.write(wire.unreadable_answer(request.token))"


def test_a_film_cannot_pause_the_worker_by_blaming_the_disk(obedient, hostile, film):
    """An OSError pauses intake: a child's word for one was believed."""
    pool = obedient()
    assert isinstance(error_of(pool, hostile(UNREADABLE)), DecoderCrashed)
    assert pool.submit(film).result(WAIT_S).format == "JPEG"


def test_a_disk_that_fails_is_no_films_fault(obedient, hostile, monkeypatch):
    def fail(film):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(process, "_read_through", fail)
    error = error_of(obedient(), hostile(UNREADABLE))
    assert isinstance(error, OSError)


# What a kernel may lack


def test_a_child_says_itself_what_confines_it(limits):
    found = isolation(limits)
    assert "seccomp" in found.layers
    assert found.gaps == ()


def test_what_is_not_confined_is_found_by_trying(limits, monkeypatch):
    monkeypatch.setattr(process, "_CHILD", (OBEDIENT, "seccomp", "landlock"))
    found = isolation(limits)
    assert found.layers == ("no new privileges",)
    assert set(found.gaps) >= {"open files", "use the network", "start processes"}


def test_children_that_do_not_start_have_no_isolation(limits, monkeypatch):
    monkeypatch.setattr(process, "_CHILD", ("-c", "print('ready')"))
    with pytest.raises(DecoderUnavailable):
        isolation(limits)


def _no_such_call(*_):
    raise OSError(38, "Function not implemented")


def test_a_kernel_without_landlock_or_seccomp_is_told_from_one_with(monkeypatch):
    for module in (landlock, seccomp):
        monkeypatch.setattr(module, "syscall", _no_such_call)
    assert landlock.abi() == 0
    assert landlock.restrict() == 0
    assert not seccomp.restrict()
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "riscv64")
    assert not seccomp.restrict()


@pytest.mark.parametrize(("version", "size"), [(1, 8), (3, 8), (4, 16), (5, 16), (6, 24), (9, 24)])
def test_each_landlock_gets_the_rights_it_knows(monkeypatch, version, size):
    calls = []

    def fake(number, *arguments):
        calls.append((number, arguments))
        return version if arguments == (None, 0, 1) else os.open(os.devnull, os.O_RDONLY)

    monkeypatch.setattr(landlock, "syscall", fake)
    assert landlock.restrict() == version
    ruleset = calls[1][1][0]
    assert len(ruleset) == size
    bits = {1: 13, 3: 15, 4: 15, 5: 16, 6: 16, 9: 16}[version]
    assert struct.unpack("=Q", ruleset[:8])[0] == 2**bits - 1
    assert calls[2][0] == 446


@pytest.mark.parametrize("failing", [444, 446])
def test_a_landlock_that_refuses_counts_as_none(monkeypatch, failing):
    def fake(number, *arguments):
        if arguments == (None, 0, 1):
            return 4
        if number == failing:
            raise PermissionError(1, "Operation not permitted")
        return os.open(os.devnull, os.O_RDONLY)

    monkeypatch.setattr(landlock, "syscall", fake)
    assert landlock.restrict() == 0


@pytest.mark.parametrize("name", sorted(seccomp.MACHINES))
def test_each_machine_has_a_filter_of_its_own(name):
    machine = seccomp.MACHINES[name]
    code = seccomp.program(machine, 4711)
    assert len(code) % 8 == 0
    assert len(code) // 8 < 4096  # BPF_MAXINSNS
    assert struct.pack("=I", machine.audit_arch) in code[8:16]
    assert struct.pack("=I", 4711) in code
    assert len(set(machine.allowed)) == len(machine.allowed)


def test_confining_puts_up_every_wall_and_tries_them(monkeypatch):
    monkeypatch.setattr(confine, "prctl", _no_such_call)
    monkeypatch.setattr(confine.landlock, "restrict", lambda: 3)
    monkeypatch.setattr(confine.seccomp, "restrict", lambda: True)
    monkeypatch.setattr(confine.os, "fork", lambda: os.posix_spawn("/bin/true", ["true"], {}))
    found = confine.confine()
    assert found.layers == ("Landlock 3", "seccomp")
    assert {"open files", "start processes"} <= set(found.gaps)


def test_only_what_was_put_up_is_named(monkeypatch):
    told = []
    monkeypatch.setattr(confine, "prctl", lambda *what: told.append(what))
    for module in (confine.landlock, confine.seccomp):
        monkeypatch.setattr(module, "restrict", lambda: 0)
    monkeypatch.setattr(confine, "_gaps", lambda _: iter(()))
    assert confine.confine() == confine.Isolation(("no new privileges",), ())
    assert told == [(1, signal.SIGKILL), (4, 0), (38, 1)]


def test_a_failed_call_is_an_error_with_its_number():
    with pytest.raises(OSError, match="Bad file descriptor"):
        kernel.syscall(3, -1)
    with pytest.raises(OSError, match="Invalid argument"):
        kernel.prctl(10_000, 0)


# Films are what they were


def _real_films(shared_data):
    yield from sorted(path for path in (shared_data / "dicom").rglob("*") if path.is_file())
    yield from sorted((shared_data / "kermany" / "originals").rglob("*.jp*g"))[:2]
    yield from sorted((shared_data / "kermany" / "val16").rglob("*.jp*g"))[:2]
    store = importlib.util.find_spec("data_store").submodule_search_locations[0]
    yield from sorted((Path(store) / "data").glob("*.dcm"))


def _in_this_process(path):
    try:
        return decode(path.read_bytes())
    except FilmError as error:
        return error


@pytest.mark.slow
def test_confined_children_see_what_this_process_sees(settings, shared_data, tmp_path, png):
    (tmp_path / "film.png").write_bytes(png)
    paths = [*_real_films(shared_data), tmp_path / "film.png"]
    with DecoderPool(settings, DecodeLimits(), processes=2) as pool:
        futures = [pool.submit(path) for path in paths]
        for path, future in zip(paths, futures, strict=True):
            expected = _in_this_process(path)
            if isinstance(expected, FilmError):
                error = future.exception(WAIT_S)
                assert (type(error), str(error)) == (type(expected), str(expected)), path.name
                continue
            found = future.result(WAIT_S)
            model_input = prepare.model_input(
                expected.pixels,
                224,
                settings.stretch_low,
                settings.stretch_high,
                (expected.rows, expected.columns),
            )
            np.testing.assert_array_equal(found.model_input, model_input, path.name)
            picture = prepare.display_picture(expected.pixels, 512, settings.quality)
            assert found.picture == picture, path.name
            assert (found.tags, found.notes) == (expected.tags, expected.notes), path.name
            assert found.refusal == expected.refusal, path.name


# What the doctor says


def test_the_doctor_says_what_confines_decoders_here(site):
    finding = doctor._isolation(site)
    assert finding.ok
    assert "seccomp" in finding.found
    assert finding.mend is None


def test_the_doctor_says_what_a_hostile_film_could_do_and_how_to_mend_it(site, monkeypatch):
    weak = confine.Isolation(("no new privileges",), ("open files", "use the network"))
    monkeypatch.setattr(sandbox, "isolation", lambda _: weak)
    finding = doctor._isolation(site)
    assert not finding.ok
    assert finding.found == "no new privileges; a hostile film could open files, use the network"
    assert "Landlock 6" in finding.mend
