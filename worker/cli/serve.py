"""`screen serve`: the reading room over HTTP."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.options import chosen_config, config_option

if TYPE_CHECKING:
    from fastapi import FastAPI

_SHUT_DOWN_S = 5  # for requests that are under way; who listens to events never ends by itself


@click.command()
@click.option("--host", help="Address to listen on; else [serve] host.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port; else [serve] port.")
@click.option("--watch", is_flag=True, help="Keep a worker running beside the page.")
@click.option(
    "--only-invocations",
    is_flag=True,
    help="Only /ping and /invocations, without site and token: behind a platform's own guard.",
)
@click.option("--make-token", is_flag=True, help="Write a new token, print it, and end.")
@config_option
def serve(
    host: str | None,
    port: int | None,
    watch: bool,
    only_invocations: bool,
    make_token: bool,
    config_file: Path | None,
) -> None:
    """Serve the reading room: drop films, watch them go through, read reports, query, review.

    Without a token it listens on this machine only. With one (--make-token, or the environment
    variable SCREEN_TOKEN) whoever comes must know it. Put a proxy with TLS before it.

    \b
    Examples:
      screen serve --watch
      screen serve --make-token
      screen serve --host 0.0.0.0
    """
    from worker.errors import UsageError
    from worker.web.access import LOOPBACK
    from worker.web.token import find_token
    from worker.web.token import make_token as write_token

    config = chosen_config(config_file)
    if make_token:
        click.echo(write_token(config.require_site().serve.token_file))
        return
    host, port = host or config.serve.host, port or config.serve.port
    if only_invocations:
        from worker.web.app import door

        app = door(config)
    else:
        token = find_token(config.require_site().serve.token_file)
        if token is None and (host not in LOOPBACK or config.serve.proxies):
            where = "behind a proxy" if host in LOOPBACK else f"on {host}"
            raise UsageError(
                f"to listen {where} a token is needed: make one with 'screen serve --make-token'"
            )
        from worker.web.app import reading_room

        app = reading_room(config, token, watch=watch)
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    what = "/ping and /invocations are" if only_invocations else "the reading room is"
    click.echo(f"{what} at http://{where}/", err=True)
    _listen(app, host, port, config.serve.proxies)


def _listen(app: "FastAPI", host: str, port: int, proxies: Sequence[str]) -> None:
    """Answer until SIGTERM or Ctrl-C."""
    import uvicorn

    settings = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,  # ours: names of films stand in addresses
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        timeout_graceful_shutdown=_SHUT_DOWN_S,
    )
    server = uvicorn.Server(settings)
    app.state.is_over = lambda: server.should_exit
    # uvicorn raises the signal again that ended it: an orderly end has exit code 0, as 'watch'
    signal.signal(signal.SIGTERM, lambda _signal, _frame: None)
    try:
        server.run()
    finally:  # a second Ctrl-C leaves out what comes at the end of a server's life
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # and one more would cut this end off, too
        app.state.end()
    if not server.started:
        sys.exit(1)
