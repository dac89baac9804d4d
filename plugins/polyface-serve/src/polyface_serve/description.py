"""What OpenAPI says of the paths."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from polyface.plugins.records import OptionSpec
from polyface_serve.query import DETECT

_TYPES = {"bool": "boolean", "int": "integer", "float": "number", "str": "string"}

SUMMARY = "Finds faces in the images that are sent. An error is JSON: what happened, why, and what mends it."

_BINARY = {"type": "string", "format": "binary"}
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_OBJECT = {"type": "object"}
_ERROR = {
    "type": "object",
    "properties": {
        "what": {"type": "string"},
        "why": {"type": "array", "items": {"type": "string"}},
        "fix": _OBJECT | {"description": "words, names and settings (values by name), a command, alternatives"},
    },
}
_FACE = {
    "type": "object",
    "properties": {
        "box": _NUMBERS | {"description": "x1, y1, x2, y2 in pixels"},
        "score": {"type": "number"},
        "landmarks": {"type": "array", "items": _NUMBERS},
    },
}
_LINE = {
    "type": "object",
    "properties": {
        "image": {"type": "string"},
        "width": {"type": ["integer", "null"]},
        "height": {"type": ["integer", "null"]},
        "faces": {"type": "array", "items": _FACE},
        "truncated": {"type": "boolean"},
        "error": {"anyOf": [_ERROR, {"type": "null"}]},
    },
}
_ANSWER = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "landmarks": {"type": "array", "items": {"type": "string"}},
        "results": {"type": "array", "items": _LINE},
    },
}
_FORM = {"type": "object", "properties": {"image": {"type": "array", "items": _BINARY}}}
_JSON = {
    "type": "object",
    "required": ["images"],
    "properties": {
        "images": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["data"],
                "properties": {"data": {"type": "string", "format": "byte"}, "name": {"type": "string"}},
            },
        }
    },
}
_REFUSED = {
    "400": "A query setting or the body is wrong.",
    "401": "The token is missing or wrong.",
    "404": "There is no such model.",
    "408": "The request came too slowly.",
    "413": "Too many bytes, images or pixels.",
    "415": "It is no image in a format that is read.",
    "422": "The image cannot be decoded, or not be examined wholly.",
    "503": "The queue is full; Retry-After says when to try again.",
    "504": "There was no answer in time.",
}


def describe_detect() -> dict[str, Any]:
    """Return what OpenAPI says of ``/v1/detect``."""
    return _describe(DETECT, {"application/json": {"schema": _ANSWER}})


def describe_file(options: Iterable[OptionSpec], media_type: str) -> dict[str, Any]:
    """Return what OpenAPI says of a path that answers one image with a file."""
    return _describe(options, {media_type: {"schema": _BINARY}})


def _describe(options: Iterable[OptionSpec], content: dict[str, Any]) -> dict[str, Any]:
    error = {"application/json": {"schema": {"type": "object", "properties": {"error": _ERROR}}}}
    refused = {status: {"description": text, "content": error} for status, text in _REFUSED.items()}
    return {
        "parameters": [_parameter(option) for option in options],
        "requestBody": {
            "required": True,
            "content": {
                "image/*": {"schema": _BINARY},
                "multipart/form-data": {"schema": _FORM},
                "application/json": {"schema": _JSON},
            },
        },
        "responses": {"200": {"description": "Done.", "content": content}, **refused},
    }


def _parameter(option: OptionSpec) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": _TYPES[option.type]}
    given = {
        "default": option.default,
        "minimum": option.minimum,
        "maximum": option.maximum,
        "enum": list(option.choices) or None,
    }
    schema |= {key: value for key, value in given.items() if value is not None}
    return {"name": option.name, "in": "query", "description": option.help, "schema": schema}
