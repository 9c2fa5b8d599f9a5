"""The applications: the reading room of a site, and the bare door for a platform."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from worker import __version__
from worker.config import Config
from worker.errors import StoreError
from worker.intake.deliver import remove_abandoned
from worker.marks import require_this_site
from worker.report.wording import CAVEAT
from worker.store.database import open_database, require_current
from worker.web import invocations, live, machines, pages, reports, results, reviews, upload
from worker.web.access import Access, Gate
from worker.web.look import Look
from worker.web.metrics import Counted, SiteCollector, Traffic
from worker.web.refresh import Refresher
from worker.web.room import Rates, Room
from worker.web.token import Sessions
from worker.web.trouble import answer_trouble
from worker.web.watcher import Watcher


def reading_room(config: Config, token: str | None, *, watch: bool = False) -> FastAPI:
    """The page of a site, its API and the door for platforms; with `watch` a worker runs beside it.

    Whoever asks must know the `token`, if there is one; else only this machine may ask.
    Raises StoreError when the database is missing or of another schema.
    """
    reader = open_database(config.database, read_only=True)
    require_current(reader)
    writer = open_database(config.database)
    sessions = None if token is None else Sessions(token)
    traffic, rates = Traffic(), Rates()
    traffic.registry.register(SiteCollector(config, reader))
    refresher = Refresher(config.site, writer)

    def check() -> None:
        require_this_site(config.site, reader)  # asked anew: the first worker makes the mark

    opened = _identity(config)

    def check_database() -> None:
        if _identity(config) != opened:
            raise StoreError("the database was removed or replaced: start 'screen serve' again")

    room = Room(
        config=config,
        reader=reader,
        writer=writer,
        check=check,
        check_database=check_database,
        sessions=sessions,
        rates=rates,
        traffic=traffic,
        reviewed=refresher.ask,
    )
    model = invocations.Model(config)
    seen = live.Live(Look(room))

    ending = ExitStack()
    for each in (writer.dispose, reader.dispose, model.close):
        ending.callback(each)

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        remove_abandoned(config.site.inbox)
        invocations.remove_abandoned()
        refresher.start()
        ending.callback(refresher.stop)
        if watch and config.source:
            worker = Watcher(config.source)
            worker.start()
            ending.callback(worker.stop)
        yield
        await run_in_threadpool(ending.close)

    app = _app(life, traffic, ending.close, Access(sessions, config.serve.embed))
    for routes in (
        pages.routes(room, seen),
        upload.routes(room),
        results.routes(room),
        reviews.routes(room),
        reports.routes(room),
        live.routes(seen),
        machines.routes(room, watch=watch),
        invocations.routes(model, rates, traffic),
    ):
        app.include_router(routes)
    pages.add_api_page(app)
    return app


def door(config: Config) -> FastAPI:
    """`/ping` and `/invocations` alone: no site, no token, for behind a platform's own guard.

    The model is loaded before anything is answered.
    """
    model, traffic = invocations.Model(config), Traffic()

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        invocations.remove_abandoned()
        await run_in_threadpool(model.load)
        yield
        model.close()

    app = _app(life, traffic, model.close)
    app.include_router(invocations.routes(model, Rates(), traffic))
    app.include_router(machines.alive())
    return app


def _identity(config: Config) -> tuple[int, int] | None:
    """What tells a database's file from one that was put in its place; `None` if it is gone.

    A server's database has none: there a connection never holds what is gone.
    """
    if not config.database.is_file:
        return None
    try:
        status = config.database.file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _app(
    life: Callable[[FastAPI], AbstractAsyncContextManager[None]],
    traffic: Traffic,
    end: Callable[[], None],
    access: Access | None = None,
) -> FastAPI:
    """An application without addresses. The last middleware named is the first to be asked.

    `end` closes what it holds, also where a server was cut short; it may be called again.
    """
    app = FastAPI(
        title="Screen",
        version=__version__,
        description=f"Screening of chest radiographs. {CAVEAT}.",
        docs_url=None,  # they would load scripts from elsewhere: `/api` shows the same
        redoc_url=None,
        lifespan=life,
    )
    app.state.end = end
    app.state.is_over = lambda: False  # the server says when it begins to end
    answer_trouble(app)
    if access:
        app.add_middleware(Gate, access=access)
    app.add_middleware(Counted, traffic=traffic)
    return app
