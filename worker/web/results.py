"""Results over HTTP, as `screen query` gives them."""

from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from worker.store.browse import Leaf, Sort, browse
from worker.store.counts import counts_by_decision
from worker.store.filters import Filter
from worker.store.queries import result_fields, results
from worker.web.room import Room

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Probability = Annotated[float, Field(ge=0, le=1)]
Run = Annotated[int, Field(ge=1, le=(1 << 63) - 1)]  # SQLite's numbers end there
FileNumber = Annotated[int, Field(ge=0, le=(1 << 63) - 1)]
Text = Annotated[
    str, Field(max_length=200, pattern=r"^[^\x00]*$", description="Occurs in the file's name")
]
Blank = BeforeValidator(lambda value: None if value == "" else value)  # a field left empty


class Wanted(BaseModel):
    """Which results; what is left out or empty does not restrict."""

    model_config = ConfigDict(extra="forbid")

    decision: Annotated[str | None, Blank] = None
    status: Annotated[Literal["screened", "duplicate", "failed"] | None, Blank] = None
    reason: Annotated[str | None, Blank] = None
    verdict: Annotated[Literal["agree", "disagree", "unclear"] | None, Blank] = None
    reviewed: Annotated[bool | None, Blank] = None
    q: Text = ""
    since: Annotated[date | None, Blank] = None
    until: Annotated[date | None, Blank] = None
    min_probability: Annotated[Probability | None, Blank] = None
    max_probability: Annotated[Probability | None, Blank] = None
    source: Annotated[str | None, Blank] = None
    run: Annotated[Run | None, Blank] = None
    sort: Sort = "newest"
    offset: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 100

    def leaf(self, room: Room) -> Leaf:
        """One page of what is wanted."""
        asked = Filter(
            decision=self.decision,
            status=self.status,
            reason=self.reason,
            verdict=self.verdict,
            reviewed=self.reviewed,
            since=_moment(self.since, time.min),
            until=_moment(self.until, time.max),
            min_probability=self.min_probability,
            max_probability=self.max_probability,
            source=self.source,
            run=self.run,
            limit=self.limit,
        )
        return browse(room.reader, asked, text=self.q, sort=self.sort, offset=self.offset)


class Found(BaseModel):
    """Results; `total` counts all that are wanted, `more` says that it stopped counting."""

    total: int
    more: bool
    results: list[dict[str, Any]]


class FilmState(BaseModel):
    """Where a film stands that was sent: `result` is `null` until the worker is done with it."""

    sha256: str
    result: dict[str, Any] | None


def routes(room: Room) -> APIRouter:
    """Where scripts ask."""
    router = APIRouter(tags=["results"])

    @router.get("/api/results")
    def find(wanted: Annotated[Wanted, Query()]) -> Found:
        """Files that came to an end, failed ones and duplicates too; fields as `query --json`."""
        leaf = wanted.leaf(room)
        return Found(total=leaf.total, more=leaf.more, results=[*map(result_fields, leaf.results)])

    @router.get("/api/films", tags=["films"])
    def films(
        sha256: Annotated[list[Digest], Query(max_length=100)],
        after: Annotated[list[FileNumber], Query(max_length=100)] = [0],  # noqa: B006 — only read
    ) -> list[FilmState]:
        """Where films stand, by the SHA-256 that their upload was answered with.

        `after` is the number in that answer, one for all or one for each: what became of an earlier
        film with the same content is then no result of this one.
        """
        if len(after) not in (1, len(sha256)):
            raise HTTPException(422, "after: one for all, or one for each sha256")
        since = after * len(sha256) if len(after) == 1 else after
        return [_state(room, *each) for each in zip(sha256, since, strict=True)]

    @router.get("/api/status")
    def status() -> dict[str, int]:
        """How many films by decision, duplicates and failures."""
        return counts_by_decision(room.reader)

    return router


def _state(room: Room, sha256: str, after: int) -> FilmState:
    newest = next(results(room.reader, Filter(sha256=sha256, limit=1)), None)
    if newest is None or newest.file_id <= after:
        return FilmState(sha256=sha256, result=None)
    return FilmState(sha256=sha256, result=result_fields(newest))


def _moment(day: date | None, at: time) -> datetime | None:
    return None if day is None else datetime.combine(day, at, UTC)
