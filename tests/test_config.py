"""The configuration is checked whole: what `config.toml` says is what the program does."""

import re
import tomllib
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.assets import asset
from worker.config import Config, load_config
from worker.errors import ConfigError, NotASite

KEY = re.compile(r"^(\w+) = .+?  # (\S.*)$")


@pytest.fixture
def load(tmp_path):
    """Load a configuration with this text."""

    def from_text(text):
        (tmp_path / "config.toml").write_text(text)
        return load_config(tmp_path / "config.toml")

    return from_text


@pytest.fixture
def explained(load):
    """What is said of a configuration with this text."""

    def message(text):
        with pytest.raises(ConfigError) as error:
            load(text)
        return str(error.value)

    return message


def shipped():
    return asset("config.toml").read_text(encoding="utf-8")


def schema():
    """Section → the keys of the schema with their defaults as TOML would give them."""
    return Config().model_dump(mode="json")


def test_shipped_file_has_the_keys_of_the_schema_with_their_defaults():
    assert tomllib.loads(shipped()) == schema()


def test_every_key_has_a_comment_on_its_line():
    lines = [line for line in shipped().splitlines() if line and line[0] not in "#["]
    uncommented = [line for line in lines if not KEY.match(line)]
    assert uncommented == []


def test_keys_that_measure_name_their_unit_or_say_it_in_the_comment():
    units = {"_s": "second", "_mb": "MiB", "_megapixels": "10^6 pixels", "_px": "pixels"}
    for line in shipped().splitlines():
        key, comment = m.groups() if (m := KEY.match(line)) else ("", "")
        unit = next((unit for suffix, unit in units.items() if key.endswith(suffix)), "")
        said_above = comment.startswith(("the same", "address space"))  # in the line before
        assert unit in comment or said_above, line


def test_every_key_may_be_left_out(load):
    config = load("")
    with_paths = {
        "site": True,
        "database": True,
        "model": {"thresholds"},
        "serve": {"token_file"},
        "dicom": True,
    }
    assert config.model_dump(exclude=with_paths) == Config().model_dump(exclude=with_paths)


@pytest.mark.parametrize("text", ["[watch]\nsetle_s = 2\n", "[wacht]\n", "color = 1\n"])
def test_an_unknown_key_is_named(explained, text):
    key = {"[watch]\nsetle_s = 2\n": "watch.setle_s", "[wacht]\n": "wacht"}.get(text, "color")
    assert f"unknown key '{key}'" in explained(text)


@pytest.mark.parametrize("key", ["root", "source"])
def test_what_the_program_knows_itself_is_no_key(explained, key):
    assert f"unknown key '{key}'" in explained(f'{key} = "/"\n')


@pytest.mark.parametrize(
    ("text", "key", "value", "allowed"),
    [
        ("[batch]\nsize = 0\n", "batch.size", "0", "greater than or equal to 1"),
        ("[batch]\nsize = 2000\n", "batch.size", "2000", "less than or equal to 1024"),
        ("[batch]\nsize = 1.5\n", "batch.size", "1.5", "integer"),
        ("[watch]\nmode = 'fast'\n", "watch.mode", "'fast'", "'auto', 'native' or 'polling'"),
        ("[watch]\nscan_interval_s = -1\n", "watch.scan_interval_s", "-1", "greater than 0"),
        ("[watch]\nsettle_s = inf\n", "watch.settle_s", "inf", "finite"),
        ("[decode]\ntimeout_s = inf\n", "decode.timeout_s", "inf", "finite"),
        ("[model]\ndevice = 'gpu'\n", "model.device", "'gpu'", "auto, cpu, cuda or cuda:N"),
        ("[model]\nprecision = 'int8'\n", "model.precision", "'int8'", "'bfloat16'"),
        ("[guard]\noutside_population = 'ask'\n", "guard.outside_population", "'ask'", "'mark'"),
        ("[report]\nquality = 101\n", "report.quality", "101", "less than or equal to 100"),
        ("[site]\nfile_mode = 'rw'\n", "site.file_mode", "'rw'", "octal mode"),
        ("[site]\nfile_mode = '-10'\n", "site.file_mode", "'-10'", "octal mode"),
        ("site = 5\n", "site", "5", "dictionary"),
    ],
)
def test_a_bad_value_is_named_with_key_and_what_is_allowed(explained, text, key, value, allowed):
    message = explained(text)
    assert f"{key} = {value}" in message
    assert allowed in message


@pytest.mark.parametrize("mode", ["0644", "2755", "0641", "777"])
@pytest.mark.parametrize("key", ["dir_mode", "file_mode"])
def test_modes_that_let_the_world_in_are_refused(explained, key, mode):
    message = explained(f"[site]\n{key} = '{mode}'\n")
    assert f"site.{key} = '{mode}'" in message
    assert "without rights for the world" in message


@given(st.integers(0, 0o7777))
def test_a_mode_is_refused_exactly_when_the_world_has_rights(mode):
    values = {"site": {"file_mode": f"{mode:04o}"}}
    if mode & 0o007:
        with pytest.raises(ValueError, match="world"):
            Config.model_validate(values)
    else:
        assert int(Config.model_validate(values).site.file_mode, 8) == mode


def test_paths_are_relative_to_the_file_wherever_the_program_runs(load, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    config = load("[site]\ninbox = 'in/films'\ndone = '/elsewhere/done'\n")
    assert config.site.inbox == tmp_path / "in" / "films"
    assert str(config.site.done) == "/elsewhere/done"
    assert config.site.reports == tmp_path / "reports"
    assert config.database.url == f"sqlite:///{tmp_path}/screen.db"
    assert config.model.thresholds == tmp_path / "thresholds.jsonl"


def test_an_absolute_database_stays_where_it_is(load):
    config = load("[database]\nurl = 'sqlite:////var/lib/screen/screen.db'\n")
    assert config.database.url == "sqlite:////var/lib/screen/screen.db"


def test_without_a_file_the_defaults_hold_in_the_current_folder(tmp_path):
    config = load_config(cwd=tmp_path)
    assert config.source is None
    assert config.root == tmp_path
    assert config.site.inbox == tmp_path / "inbox"


def test_the_file_in_the_current_folder_is_found(load, tmp_path):
    load("[batch]\nsize = 3\n")
    assert load_config(cwd=tmp_path).batch.size == 3


def test_a_named_file_wins_over_the_one_in_the_current_folder(load, tmp_path):
    load("[batch]\nsize = 3\n")
    (tmp_path / "other.toml").write_text("[batch]\nsize = 5\n")
    assert load_config(tmp_path / "other.toml", cwd=tmp_path).batch.size == 5


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*none\.toml"):
        load_config(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "text",
    [
        'database = "postgresql://screen:secret@db/screen"\n',
        '[database]\nurl = ["postgresql://screen:secret@db/screen"]\n',
    ],
)
def test_what_may_hold_a_password_is_not_shown(load, text):
    with pytest.raises(ConfigError, match="database") as refused:
        load(text)
    told = "".join(traceback.format_exception(refused.value))
    assert "secret" not in told.replace(text, "")


@pytest.mark.parametrize("text", ["[site\n", "batch.size = 1\nbatch.size = 2\n"])
def test_what_is_no_toml_is_said_to_be_none(explained, text):
    assert "is not TOML" in explained(text)


def test_a_binary_file_is_an_error_of_the_configuration(tmp_path):
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load_config(tmp_path / "config.toml")


def test_a_folder_without_a_site_says_how_to_make_one(load):
    with pytest.raises(NotASite, match=r"screen init"):
        load("").require_site()


def test_errors_of_the_configuration_exit_with_2():
    assert (ConfigError.exit_code, NotASite.exit_code) == (2, 2)


@pytest.mark.parametrize(
    ("key", "value"),
    [("inbox", "."), ("inbox", "done"), ("failed", "inbox/failed"), ("reports", "..")],
)
def test_folders_that_overlap_are_refused(tmp_path, key, value):
    """With inbox = "." the worker once took its own configuration and database for films."""
    (tmp_path / "config.toml").write_text(f'[site]\n{key} = "{value}"\n')
    with pytest.raises(ConfigError, match=f"site.({key}|inbox|done)"):
        load_config(tmp_path / "config.toml")
