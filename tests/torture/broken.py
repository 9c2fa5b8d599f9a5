"""Protocols broken on purpose, one fault each: a sweep that misses one is worth nothing."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import worker.daemon
import worker.filesystem
import worker.intake.inbox
import worker.intake.shelf
import worker.pipeline
import worker.recovery
import worker.report.site
import worker.shelves
import worker.store.outcomes
import worker.store.sqlite
import worker.store.work
from worker.failpoints import reach
from worker.store.outcomes import Outcome, finish


@dataclass(frozen=True)
class Broken:
    """One broken protocol; `break_it` changes this process for good."""

    break_it: Callable[[], None]
    near: tuple[str, ...] = ()  # kills at these steps show it


def _commit_before_write() -> None:
    waiting: list[Callable[[], None]] = []
    pipeline = worker.pipeline
    pictures, page = pipeline.write_pictures, pipeline.write_page

    def later(real: Callable[..., None]) -> Callable[..., None]:
        return lambda *arguments: waiting.append(lambda: real(*arguments))

    def commit(*arguments: Any, **named: Any) -> list[Outcome]:
        written = finish(*arguments, **named)
        while waiting:
            waiting.pop(0)()
        return written

    pipeline.write_pictures, pipeline.write_page = later(pictures), later(page)
    pipeline.finish = commit


def _move_before_commit() -> None:
    """The film moves before the commit."""

    def commit(engine: Any, outcomes: Sequence[Any], **named: Any) -> list[Outcome]:
        for outcome in outcomes:
            path = outcome.item.found.path
            if outcome.final_name and path.exists():
                path.rename(path.parents[2] / "done" / outcome.final_name)
                reach("film-moved")
        return finish(engine, outcomes, **named)

    worker.pipeline.finish = commit


def _unlink_before_write() -> None:
    """The source goes before the copy is there."""

    def move(source: Path, target: Path) -> None:
        content = source.read_bytes()
        source.unlink()
        reach("film-moved")
        target.write_bytes(content)

    worker.intake.shelf.move_new = move


def _claim_by_copy() -> None:
    """A claim leaves the film in the inbox."""

    def copy_in(folder: int, name: str, claimed: Path) -> None:
        shutil.copyfile(f"/proc/self/fd/{folder}/{name}", claimed)
        reach("claim-renamed")

    worker.intake.inbox.Signature.of = classmethod(lambda cls, status: cls(status.st_size, 0, 0))
    worker.intake.inbox.move_in = copy_in


def _claims_forgotten() -> None:
    def forget(folder: Path, *_: Any) -> None:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()

    take_up = worker.recovery._take_up_claim

    def only_known(folder: Path, engine: Any, waiting: Any, taken: Any) -> None:
        known = worker.recovery.claimed_file(engine, folder.name)
        (take_up if known else forget)(folder, engine, waiting, taken)

    worker.recovery._take_up_claim = only_known


def _no_dedupe() -> None:
    """Contents screened before are not looked up, and each counts as the first of its kind."""
    real = worker.store.outcomes._Ending._end

    def end(self: Any, outcome: Any, answers: Any, fresh: set[int]) -> dict[str, object]:
        return real(self, outcome, answers, fresh | {outcome.item.id})

    worker.store.outcomes._Ending._end = end
    worker.pipeline.screened_contents = lambda *_: set()


def _one_counter() -> None:
    """A kill counts as a crash."""
    real = worker.store.work.begin_recovery
    worker.store.work.begin_recovery = lambda engine, *, crashed: real(engine, crashed=True)


def _no_count_before_touch() -> None:
    """The attempt is not counted before it."""
    worker.pipeline.begin_attempt = lambda *_: None


def _moves_not_taken_up() -> None:
    """Finished files stay in work/ after a kill."""
    worker.recovery.finished_file = lambda *_: None


def _two_transactions() -> None:
    """Screening and file row are committed apart."""
    unfinish = "UPDATE files SET state = 'attempted', finished_at = NULL WHERE id = ?"

    def one_by_one(engine: Any, outcomes: Sequence[Any], **named: Any) -> list[Outcome]:
        """As if each screening were committed first, and its file's row after that."""
        for outcome in outcomes:
            finish(engine, [outcome], **named)
            mine = (outcome.item.id,)
            with engine.begin() as connection:
                asked = "SELECT state, finished_at FROM files WHERE id = ?"
                ended = connection.exec_driver_sql(asked, mine).one()
                connection.exec_driver_sql(unfinish, mine)
            reach("film-moved")  # between the two; the real step comes later
            with engine.begin() as connection:
                change = "UPDATE files SET state = ?, finished_at = ? WHERE id = ?"
                connection.exec_driver_sql(change, (*ended, *mine))
        reach("outcomes-committed")
        return list(outcomes)

    worker.pipeline.finish = one_by_one


def _overwriting_moves() -> None:
    """Names in done/ are not looked up."""
    worker.shelves.free_name = lambda _folder, name, _id, _taken: name
    worker.intake.shelf.move_new = lambda source, target: source.replace(target)


def _pages_not_mended() -> None:
    """Missing pages are not rendered at start."""
    pages: list[Callable[[], None]] = []
    real, commit = worker.pipeline.write_page, worker.pipeline.finish

    def finish_then_write(*arguments: Any, **named: Any) -> list[Outcome]:
        written = commit(*arguments, **named)
        while pages:
            pages.pop(0)()
        return written

    worker.pipeline.write_page = lambda *arguments: pages.append(lambda: real(*arguments))
    worker.pipeline.finish = finish_then_write
    worker.recovery.broken_pages = lambda *_: []


def _temporaries_stay() -> None:
    """Half-written files are not removed."""
    worker.recovery.remove_temporary = lambda _folder: None


def _sidecar_last() -> None:
    """The sidecar comes after the move."""
    sidecars: list[Callable[[], None]] = []
    real, move = worker.shelves.write_sidecar, worker.shelves.put_away

    def put_away(*arguments: Any) -> None:
        move(*arguments)
        while sidecars:
            sidecars.pop(0)()

    worker.shelves.write_sidecar = lambda *arguments: sidecars.append(lambda: real(*arguments))
    worker.shelves.put_away = put_away


def _contents_unsynced() -> None:
    """Pictures are not synced before the commit."""
    real = worker.filesystem.write_all_atomic

    def write(files: Mapping[Path, bytes], mode: int, *, sync: bool = False) -> None:
        real(files, mode, sync=False)

    worker.report.site.write_all_atomic = write
    worker.report.site.sync_folder = lambda _folder: None


def _claims_unsynced() -> None:
    """Claims are not synced before their rows."""
    worker.daemon.secure = lambda *_: None


def _commits_unsynced() -> None:
    """The database does not wait for the disk."""

    def relaxed(connection: Any, record: Any) -> None:
        real(connection, record)
        connection.execute("PRAGMA synchronous=OFF")

    real = worker.store.sqlite._set_pragmas
    worker.store.sqlite._set_pragmas = relaxed


PROTOCOLS: Mapping[str, Broken] = {
    "commit-before-write": Broken(
        _commit_before_write,
        ("outcomes-committed", "file-created"),
    ),
    "move-before-commit": Broken(_move_before_commit, ("film-moved", "outcomes-written")),
    "unlink-before-write": Broken(_unlink_before_write, ("film-moved",)),
    "claim-by-copy": Broken(_claim_by_copy, ("claim-renamed",)),
    "claims-forgotten": Broken(
        _claims_forgotten,
        ("claim-renamed", "claims-synced"),
    ),
    "no-dedupe": Broken(_no_dedupe, ("worklist-written",)),
    "one-counter": Broken(_one_counter, ("batch-decoded",)),
    "no-count": Broken(_no_count_before_touch, ("batch-decoded",)),
    "moves-not-taken-up": Broken(_moves_not_taken_up, ("outcomes-committed",)),
    "two-transactions": Broken(_two_transactions, ("film-moved",)),
    "overwriting-moves": Broken(_overwriting_moves, ("worklist-written",)),
    "pages-not-mended": Broken(_pages_not_mended, ("outcomes-committed",)),
    "temporaries-stay": Broken(_temporaries_stay, ("file-created", "file-written")),
    "sidecar-last": Broken(_sidecar_last, ("film-moved", "claim-removed")),
}
UNSYNCED: Mapping[str, Broken] = {  # only a power loss shows these
    "contents-unsynced": Broken(_contents_unsynced),
    "claims-unsynced": Broken(_claims_unsynced),
    "commits-unsynced": Broken(_commits_unsynced),
}
