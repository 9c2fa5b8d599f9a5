"""The errors of this package."""

from typing import ClassVar


class ModelError(Exception):
    """A model is unknown, incomplete, altered or does not fit its card; says what to do."""

    slug: ClassVar[str] = "model"
    exit_code: ClassVar[int] = 1


class UnknownModel(ModelError):
    """There is no model or architecture of this name: the request is wrong, not the model."""

    exit_code = 2
