"""Commands about models that are there: `screen models list`, `screen models verify`."""

import click

from worker.cli.train import adopt


@click.group()
def models() -> None:
    """List, verify and adopt the models that can run here."""


models.add_command(adopt)


@models.command("list")
def list_models() -> None:
    """List the shipped models with thresholds and what was measured.

    \b
    Example:
      screen models list
    """
    from models.cards import read_card
    from models.registry import SHIPPED, shipped_names

    for number, name in enumerate(shipped_names()):
        card = read_card(SHIPPED / name)
        low, high = card.decision.indeterminate
        click.echo(f"{card.name} {card.version}{' (default)' if number == 0 else ''}")
        click.echo(f"  architecture  {card.architecture}, {card.input.size_px} px")
        click.echo(f"  weights       sha256 {card.weights.sha256}")
        click.echo(
            f"  threshold     {card.decision.threshold:.3f}, abstains in {low:.3f}–{high:.3f}"
        )
        click.echo(f"  validated on  {card.population.description}")
        for key, value in card.metrics.get("headline", {}).items():
            click.echo(f"  {key}: {value}")


@models.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Check weights against their cards and load them; all shipped models unless NAMES are given.

    \b
    Examples:
      screen models verify
      screen models verify default path/to/my-model
    """
    from models.registry import find_model, load_model, shipped_names

    for name in names or shipped_names():
        model = load_model(find_model(name))
        click.echo(f"{name}: {model.card.name} {model.card.version}, weights are as the card says")
