"""What the OpenAPI document says, flattened for a page that people read."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Named:
    """A parameter, an answer's status or a field, its kind, and what it means."""

    name: str
    kind: str
    meaning: str


@dataclass(frozen=True)
class Operation:
    """One thing that can be asked for."""

    id: str
    asked: str
    meaning: str
    parameters: tuple[Named, ...]
    body: tuple[str, ...]
    body_meaning: str
    answers: tuple[Named, ...]


@dataclass(frozen=True)
class Shape:
    """An object that is sent or answered."""

    name: str
    meaning: str
    fields: tuple[Named, ...]


def operations(api: dict[str, Any]) -> list[Operation]:
    """Everything that can be asked for, in the order of the document."""
    return [
        _operation(f"{method.upper()} {path}", said)
        for path, methods in api["paths"].items()
        for method, said in methods.items()
    ]


def shapes(api: dict[str, Any]) -> list[Shape]:
    """The objects of our own, errors of validation left out."""
    return [
        Shape(name, schema.get("description", ""), _fields(schema["properties"]))
        for name, schema in api["components"]["schemas"].items()
        if "properties" in schema and "Validation" not in name
    ]


def _operation(asked: str, said: dict[str, Any]) -> Operation:
    body = said.get("requestBody", {})
    parameters = (
        Named(
            f"{each['name']}{' (required)' if each.get('required') else ''}",
            _kind(each["schema"]),
            each.get("description", ""),
        )
        for each in said.get("parameters", ())
    )
    answers = (
        Named(status, ", ".join(_contents(answer)), answer["description"])
        for status, answer in said["responses"].items()
        if status != "422"
    )
    return Operation(
        id=said["operationId"],
        asked=asked,
        meaning=said.get("description", said.get("summary", "")),
        parameters=tuple(parameters),
        body=tuple(_contents(body)),
        body_meaning=body.get("description", ""),
        answers=tuple(answers),
    )


def _contents(body: dict[str, Any]) -> list[str]:
    return [
        f"{media}: {kind}" if (kind := _kind(each.get("schema", {}))) else media
        for media, each in body.get("content", {}).items()
    ]


def _fields(properties: dict[str, Any]) -> tuple[Named, ...]:
    return tuple(
        Named(name, _kind(schema), schema.get("description", ""))
        for name, schema in properties.items()
    )


def _kind(schema: dict[str, Any]) -> str:
    """What a value may be, in a few words."""
    if "anyOf" in schema:
        kinds = (_kind(each) for each in schema["anyOf"] if each.get("type") != "null")
        return " or ".join(kinds)
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items']) or 'values'}"
    return str(schema.get("format", schema.get("type", "")))
