"""Films are put away by several at once: no name is taken twice, no sidecar is another's."""

import json
from pathlib import Path

import pytest

from worker.cluster.shelves import SharedShelves
from worker.intake.found import INBOX, Found
from worker.store.work import Finished, Item

FAILURE = {"file": "a.jpg", "reason": "corrupt-file", "failed_at": "2026-05-03"}


class Names:
    """What the database knows of final names; stands in for `worker.store.work`."""

    def __init__(self, monkeypatch, failure):
        self.name, self.failure = "a.jpg", failure
        monkeypatch.setattr("worker.cluster.shelves.finished_file", lambda *_: self.finished)
        monkeypatch.setattr("worker.cluster.shelves.rename_finished", self._rename)

    @property
    def finished(self):
        return Finished(self.name, self.failure)

    def _rename(self, _engine, _file, name, *, instead_of):
        if self.name == instead_of:
            self.name = name


@pytest.fixture
def shelves(site):
    return SharedShelves(site.site, None)


@pytest.fixture
def new_item(site):
    def make(number=7, content=b"film"):
        folder = site.site.work / str(number)
        folder.mkdir()
        (folder / "a.jpg").write_bytes(content)
        return Item(number, Found(INBOX, "a.jpg", folder / "a.jpg", 4, 4, str(number)))

    return make


def there(folder: Path):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_film_whose_name_was_taken_meanwhile_gets_another(site, shelves, new_item, monkeypatch):
    names = Names(monkeypatch, None)
    (site.site.done / "a.jpg").write_bytes(b"quicker")
    item = new_item()
    shelves.put_away(item, names.finished)
    assert there(site.site.done) == {"a.jpg": b"quicker", names.name: b"film"}
    assert not item.found.path.parent.exists()


def test_a_sidecar_of_another_film_is_left_as_it_is(site, shelves, new_item, monkeypatch):
    names = Names(monkeypatch, FAILURE)
    (site.site.failed / "a.jpg.json").write_text("another's, whose film comes at once")
    shelves.put_away(new_item(), names.finished)
    found = there(site.site.failed)
    assert found.pop("a.jpg.json") == b"another's, whose film comes at once"
    assert found.pop(names.name) == b"film"
    assert json.loads(found.pop(names.name + ".json")) == FAILURE
    assert not found


def test_a_film_that_lost_its_name_after_its_sidecar_was_written_leaves_none_behind(
    site, shelves, new_item, monkeypatch
):
    names = Names(monkeypatch, FAILURE)
    (site.site.failed / "a.jpg").write_bytes(b"quicker")
    shelves.put_away(new_item(), names.finished)
    expected = {"a.jpg", names.name, names.name + ".json"}
    assert there(site.site.failed).keys() == expected


def test_what_a_death_left_half_done_is_done_by_the_next(site, shelves, new_item, monkeypatch):
    names = Names(monkeypatch, FAILURE)
    text = json.dumps(FAILURE, indent=2) + "\n"
    (site.site.failed / "a.jpg.json").write_text(text)
    shelves.put_away(new_item(), names.finished)
    assert there(site.site.failed) == {"a.jpg": b"film", "a.jpg.json": text.encode()}


def test_a_film_that_another_worker_has_moved_is_left_there(site, shelves, new_item, monkeypatch):
    names = Names(monkeypatch, None)
    item = new_item()
    item.found.path.rename(site.site.done / "a.jpg")
    shelves.put_away(item, names.finished)
    assert there(site.site.done) == {"a.jpg": b"film"}
    assert not item.found.path.parent.exists()


def test_a_name_that_another_worker_noted_meanwhile_counts(site, shelves, new_item, monkeypatch):
    names = Names(monkeypatch, None)
    (site.site.done / "a.jpg").write_bytes(b"quicker")
    finished, names.name = names.finished, "b.jpg"
    shelves.put_away(new_item(), finished)
    assert there(site.site.done) == {"a.jpg": b"quicker", "b.jpg": b"film"}
