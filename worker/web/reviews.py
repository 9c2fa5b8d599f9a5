"""Readers' reviews: agree, disagree, unclear, with a note."""

import logging
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field
from starlette.requests import Request

from worker.errors import ScreenError
from worker.report.site import render_again
from worker.store.browse import screening_of_page
from worker.store.queries import stored_screening
from worker.store.reviews import Review, Verdict, add_review, finding_of
from worker.web.room import Room, now

log = logging.getLogger(__name__)

REVIEWER_COOKIE = "screen-reviewer"
_YEAR_S = 365 * 24 * 3600
Page = Annotated[
    str,
    Field(
        pattern=r"^films/[0-9a-f]{24}-[0-9a-f]{8}\.html$",
        description="The report, as `page` of a result",
    ),
]
Note = Annotated[str, Field(max_length=4000)]
Reviewer = Annotated[str, Field(max_length=100)]


class Opinion(BaseModel):
    """What a reader says of one answer.

    `finding` is what the reader saw, a label of the model: to be said where the model did not
    answer, else it follows from the verdict.
    """

    page: Page
    verdict: Verdict
    finding: str | None = None
    note: Note = ""
    reviewer: Reviewer = ""


class Kept(BaseModel):
    """A review as it was stored."""

    page: str
    verdict: Verdict
    finding: str | None


def routes(room: Room) -> APIRouter:
    """Where reviews are sent to."""
    router = APIRouter(tags=["reviews"])

    @router.post("/api/reviews", status_code=201)
    def review(opinion: Opinion) -> Kept:
        """Keep a review. Nothing is taken back: the newest review of an answer counts."""
        return keep(room, opinion)

    @router.post("/reviews", include_in_schema=False)
    def review_by_form(
        request: Request,
        page: Annotated[Page, Form()],
        verdict: Annotated[Verdict, Form()],
        finding: Annotated[str, Form()] = "",
        note: Annotated[Note, Form()] = "",
        reviewer: Annotated[Reviewer, Form()] = "",
    ) -> RedirectResponse:
        """From a film's page, and back to it; the reader's name is remembered in that browser."""
        opinion = Opinion(
            page=page, verdict=verdict, finding=finding or None, note=note, reviewer=reviewer
        )
        keep(room, opinion)
        answer = RedirectResponse(f"/reports/{page}#review", 303)
        secure = request.url.scheme == "https"
        name = reviewer.strip().encode().hex()  # a cookie holds ASCII only
        answer.set_cookie(
            REVIEWER_COOKIE, name, _YEAR_S, httponly=True, secure=secure, samesite="lax"
        )
        return answer

    return router


def keep(room: Room, opinion: Opinion) -> Kept:
    """Store a review, then render the film's page with it. Raises HTTPException."""
    room.check_database()  # else it would be kept in a file that has no name any more
    screening = screening_of_page(room.reader, opinion.page)
    if screening is None:
        raise HTTPException(404, "there is no such report: ask for it anew")
    stored = stored_screening(room.reader, screening)
    try:
        finding = finding_of(
            stored.record.decision, opinion.verdict, stored.card.labels, opinion.finding
        )
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    review = Review(
        screening, opinion.verdict, finding, opinion.note.strip(), opinion.reviewer.strip(), now()
    )
    add_review(room.writer, review)
    room.reviewed()
    try:
        render_again(
            room.config.site,
            room.reader,
            [screening],
            identity=room.config.dicom.identity,
        )
    except (ScreenError, OSError) as error:  # it is kept; 'screen report' mends the page
        log.warning("a reviewed page cannot be rendered", extra={"slug": type(error).__name__})
    return Kept(page=opinion.page, verdict=opinion.verdict, finding=finding)


def reviewer_of(request: Request) -> str:
    """Who reviewed last in this browser; empty if nobody did."""
    try:
        return bytes.fromhex(request.cookies.get(REVIEWER_COOKIE, "")).decode()
    except ValueError:
        return ""
