"""Find the files that ship with the program: templates, migrations, the default configuration."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def asset(name: str) -> Path:
    """Path of a shipped file or folder, in a wheel, an editable install or a checkout.

    In a wheel the shipped folders lie inside `worker/`; in a checkout they stand beside it.
    Raises FileNotFoundError when the installation is incomplete.
    """
    for root in (_PACKAGE, _PACKAGE.parent):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(f"{name} is missing beside {_PACKAGE.name}/: install Screen again")
