"""The one error of this package."""

from typing import ClassVar


class ModelError(Exception):
    """A model is unknown, incomplete, altered or does not fit its card; says what to do."""

    slug: ClassVar[str] = "model"
    exit_code: ClassVar[int] = 1
