"""The log is one line for each event in both forms, with our ids and nothing of a patient."""

import ast
import io
import json
import logging
from pathlib import Path

import pytest

from worker import logs

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "worker").rglob("*.py"))
FORMS = {"text": logs.TextFormatter, "json": logs.JsonFormatter}


@pytest.fixture(params=FORMS)
def said(request):
    """What a log in this form says of an event."""

    def write(message, *arguments, error=None, **extra):
        record = logging.LogRecord("worker.x", logging.INFO, __file__, 1, message, arguments, error)
        record.__dict__.update(extra)
        return FORMS[request.param]().format(record)

    return write


@pytest.fixture
def handlers():
    """The root logger as it was, afterwards."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers = [h for h in before if not isinstance(h.formatter, logs._Formatter)]
    yield root
    root.handlers, root.level = before, level
    logging.captureWarnings(False)


@pytest.mark.parametrize("bad", ["\n", "\r", "\x1b[2J", "\u2028", "\x85", "\u202e", "\0"])
def test_no_message_forges_a_line(said, bad):
    """With a line end in it, a message would look like two events."""
    line = said("intake paused: %s", f"x{bad}2026-01-01 ERROR worker stopped")
    assert bad not in line
    assert len(line.splitlines()) == 1


def test_an_event_carries_our_ids(said):
    line = said("a film failed", file=17, slug="truncated-file")
    assert "17" in line
    assert "truncated-file" in line


def test_what_is_not_named_as_a_field_stays_out(said):
    assert "Jane" not in said("a film failed", patient="Jane Doe", path="/inbox/Jane Doe.dcm")


def test_the_text_of_an_exception_stays_out(said):
    error = (ValueError, ValueError("Jane Doe.dcm: bad tag"), None)
    line = said("a step failed", error=error)
    assert "Jane" not in line
    assert "ValueError" in line


def test_json_has_these_fields():
    record = logging.LogRecord("worker", logging.WARNING, "", 1, "a %s", ("b",), None)
    record.created, record.msecs, record.run = 0.25, 250, 3
    found = json.loads(logs.JsonFormatter().format(record))
    assert found == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "WARNING",
        "message": "a b",
        "run": 3,
    }


def test_the_form_can_be_changed_once_the_configuration_is_known(handlers, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.set_up()
    logging.getLogger("worker.x").info("first")
    logs.set_up("json")
    logging.getLogger("worker.x").info("second")
    first, second = stream.getvalue().splitlines()
    assert first.endswith("Z INFO first")
    assert json.loads(second)["message"] == "second"


def test_other_packages_speak_only_of_errors(handlers, monkeypatch):
    """Their warnings hold values of tags."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.set_up()
    logging.getLogger("pydicom").warning("invalid value for PatientName: Jane")
    logging.getLogger("py.warnings").warning("Jane")
    logging.getLogger("alembic").error("bad")
    assert stream.getvalue().count("\n") == 1


def log_calls():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "log":
                yield pytest.param(node, id=f"{path.stem}:{node.lineno}")


@pytest.mark.parametrize("call", list(log_calls()))
def test_every_field_of_an_event_is_one_that_is_put_out(call):
    for keyword in call.keywords:
        assert keyword.arg == "extra"
        keys = [key.value for key in keyword.value.keys]
        assert set(keys) <= set(logs.FIELDS)


@pytest.mark.parametrize("call", list(log_calls()))
def test_no_event_is_given_a_name_a_path_or_a_whole_error(call):
    """Messages are constants: nothing is pasted into them but what is passed beside them."""
    first, *rest = call.args
    assert not isinstance(first, ast.JoinedStr)
    named = {node.id for value in rest for node in ast.walk(value) if isinstance(node, ast.Name)}
    assert not named & {"path", "name", "folder", "claimed", "tags"}
