"""`screen serve`: the reading room over HTTP."""

from pathlib import Path

import click

from worker.cli.options import chosen_config, config_option

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
    import uvicorn

    from worker.errors import UsageError
    from worker.web.access import LOOPBACK
    from worker.web.app import door, reading_room
    from worker.web.token import find_token
    from worker.web.token import make_token as write_token

    config = chosen_config(config_file)
    if make_token:
        click.echo(write_token(config.require_site().serve.token_file))
        return
    host, port = host or config.serve.host, port or config.serve.port
    if only_invocations:
        app = door(config)
    else:
        token = find_token(config.require_site().serve.token_file)
        if token is None and host not in LOOPBACK:
            raise UsageError(
                f"to listen on {host} a token is needed: make one with 'screen serve --make-token'"
            )
        app = reading_room(config, token, watch=watch)
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    click.echo(f"the reading room is http://{where}/", err=True)
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_config=None,  # ours: names of films stand in addresses
        access_log=False,
        server_header=False,
        proxy_headers=bool(config.serve.proxies),
        forwarded_allow_ips=list(config.serve.proxies),
        timeout_graceful_shutdown=_SHUT_DOWN_S,
    )
