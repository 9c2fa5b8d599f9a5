"""`screen export`: a model as a file for another runtime."""

from pathlib import Path

import click

from worker.cli.completion import complete_model
from worker.cli.options import EXISTING, stoppable
from worker.export.names import NAMES


@click.command()
@click.argument("model", shell_complete=complete_model)
@click.option(
    "--format", "format_name", required=True, type=click.Choice(NAMES), help="Which runtime."
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the files and their card; nothing there is written over.",
)
@click.option("--int8", is_flag=True, help="Quantise, calibrated on --films; losses are said.")
@click.option(
    "--films",
    type=EXISTING,
    help="Real films to calibrate on, and to compare with torch; else noise is compared.",
)
def export(model: str, format_name: str, out: Path, int8: bool, films: Path | None) -> None:
    """Write MODEL as a file for another runtime, with its card beside it.

    MODEL is 'default', a shipped model's name or a model folder. The file gives probability, heat
    map and the guard's scores; the card says what the input is and how to decide. It is compared
    with the model itself, and a float32 file that answers otherwise is not kept.

    \b
    Examples:
      screen export default --format onnx --out exports
      screen export my-model --format onnx --out exports --int8 --films films/
    """
    from models.registry import find_model, load_model
    from worker.cli.progress import told
    from worker.export.formats import FORMATS
    from worker.export.run import ExportRequest, said
    from worker.export.run import export as run_export

    request = ExportRequest(FORMATS[format_name], out, int8, films)
    with stoppable(lambda: "nothing was written; the same command begins anew"), told() as tell:
        exported = run_export(load_model(find_model(model)), request, tell)
    main = exported.files[0]
    size_mb = sum(file.stat().st_size for file in exported.files[:-1]) / 1e6
    click.echo(f"wrote {main} ({size_mb:.1f} MB) and its card")
    click.echo(f"against torch, {said(exported.parity)}")
