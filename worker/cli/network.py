"""Commands of DICOM over the network: `screen receive`, `screen send`."""

import signal
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from worker.cli.options import chosen_config, config_option

_ANY_TIME = timedelta(days=366)


@click.command()
@click.option("--host", help="Address to listen on; else [dicom] host.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port; else [dicom] port.")
@config_option
def receive(host: str | None, port: int | None, config_file: Path | None) -> None:
    """Receive films from modalities and PACS (C-STORE, C-ECHO), until SIGTERM or Ctrl-C.

    Films are put into the inbox: 'screen watch' screens them. Who may send stands in [dicom] peers,
    as "AE@host"; with tls_certificate, tls_key and tls_ca both sides prove who they are.

    \b
    Examples:
      screen receive
      screen receive --host 0.0.0.0 --port 104
    """
    from worker.interop.receive import start_receiver
    from worker.marks import require_this_site
    from worker.store.database import open_database

    config = chosen_config(config_file).require_site()
    reader = open_database(config.database, read_only=True)
    settings = config.dicom
    host = host or settings.host
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signal, _frame: ended.set())

    def check() -> None:
        require_this_site(config.site, reader)  # asked anew: the first worker makes the mark

    check()
    receiver = start_receiver(config, check, host=host, port=port)
    where = f"[{host}]:{receiver.port}" if ":" in host else f"{host}:{receiver.port}"
    secured = "with TLS" if settings.tls_certificate else "without TLS"
    click.echo(f"{settings.ae_title} listens on {where}, {secured}", err=True)
    if not settings.peers:
        click.echo("screen: [dicom] peers is empty: nobody may send or ask", err=True)
    ended.wait()
    receiver.stop()


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also what waits after a failed attempt.")
@config_option
def send(everything: bool, config_file: Path | None) -> None:
    """Send the answers that are due to the node in [dicom] send_to, and say what still waits.

    'screen watch' does the same by itself. The exit code is 1 while anything waits.

    \b
    Examples:
      screen send
      screen send --all
    """
    from worker.errors import UsageError
    from worker.interop.send import send_due
    from worker.report.text import printable
    from worker.store.database import open_database, require_current
    from worker.store.unsent import unsent

    config = chosen_config(config_file).require_site()
    if not config.dicom.send_to:
        raise UsageError("[dicom] send_to is empty: say where to, as 'PACS@pacs.example:11112'")
    engine = open_database(config.database)
    require_current(engine)
    until = datetime.now(UTC) + _ANY_TIME if everything else None
    done = send_due(config, engine, until=until)
    click.echo(f"sent {done.sent}")
    left = unsent(engine)
    for why, count in left:
        click.echo(printable(f"waiting {count}: {why or 'not tried yet'}"))
    click.get_current_context().exit(1 if left else 0)
