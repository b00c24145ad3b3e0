"""Checks answers of the engine against the Docker Engine API's definition (Swagger 2), whose facts tests/specs has.

For example::

    definition = ApiDefinition.load()
    definition.check("GET", "/containers/json", 200, body)
"""

import functools
import re
from pathlib import Path
from typing import Any, Self

import jsonschema
import yaml

FILE = Path(__file__).parents[1] / "specs" / "docker-engine-api-v1.54.yaml"

# Docker sends null for these, though its definition asks for a number.
NULL_IN_DOCKER = {"MemorySwappiness"}

# Required by the definition, which gives its place to another ("Size.Unpacked"), and sent by nobody.
NOT_SENT = {"UnpackedSize"}

# Docker goes on to send the first, of an image that was committed or built step by step; wherry adds the second.
SENT = {
    "ImageInspect": {"Parent": {"type": "string"}},
    "SystemInfo": {"Starts": {"type": "object", "additionalProperties": {"type": "integer"}}},
}

Schema = dict[str, Any]


class ApiDefinition:
    """The API's operations and the schemas of their answers, turned into JSON Schema 2020-12.

    An answer may not hold fields that the definition does not know: a misspelt name is found. Where a field is
    an array or an object, null is accepted: it is what Docker sends for an empty one, Go's nil.
    """

    def __init__(self, swagger: dict[str, Any]) -> None:
        self._operations = [(_path_pattern(path), operations) for path, operations in swagger["paths"].items()]
        for name, fields in SENT.items():
            if name in swagger["definitions"]:
                swagger["definitions"][name]["properties"].update(fields)
        self._swagger_definitions = swagger["definitions"]
        self._shared_responses = swagger.get("responses", {})
        self._definitions = {name: self._definition(schema) for name, schema in swagger["definitions"].items()}

    @classmethod
    @functools.cache
    def load(cls) -> Self:
        """The definition in tests/specs, read once."""
        return cls(yaml.load(FILE.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))

    def check(self, method: str, path: str, status: int, body: Any) -> None:
        """Raise AssertionError if ``body`` (decoded JSON) is not what the definition says ``method path`` answers.

        ``path`` may carry a version (``/v1.54``) and a query.
        """
        schema = self.schema(method, path, status)
        if schema is None:
            assert body in (b"", "", None), f"{method} {path}: {status} has no body in the definition, got {body!r}"
            return
        validator = jsonschema.Draft202012Validator({**schema, "definitions": self._definitions})
        errors = _telling(sorted(validator.iter_errors(body), key=lambda error: error.json_path))
        lines = [f"{error.json_path}: {error.message[:300]}" for error in errors]
        assert not errors, f"{method} {path} {status} is not as the API defines it:\n" + "\n".join(lines)

    def schema(self, method: str, path: str, status: int) -> dict[str, Any] | None:
        """The JSON Schema of an answer, or None for an answer without a body. KeyError if there is no such answer."""
        bare = re.sub(r"^/v\d+\.\d+(?=/)", "", path.partition("?")[0])
        # "/containers/json" is also "/containers/{id}" in form: the pattern with fewest placeholders is meant
        candidates = [
            (pattern.groups, operations[method.lower()])
            for pattern, operations in self._operations
            if method.lower() in operations and pattern.fullmatch(bare)
        ]
        if not candidates:
            raise KeyError(f"the API has no {method} {bare}")
        _, operation = min(candidates, key=lambda candidate: candidate[0])
        if str(status) not in {str(code) for code in operation["responses"]}:
            raise KeyError(f"the API has no answer {status} to {method} {bare}")
        response = next(answer for code, answer in operation["responses"].items() if str(code) == str(status))
        if "$ref" in response:
            response = self._shared_responses[response["$ref"].rpartition("/")[2]]
        return self._translate(response["schema"]) if "schema" in response else None

    def _definition(self, schema: Schema) -> Schema:
        """A named schema: open, since a schema that says allOf may add properties to it; who refers to it closes it."""
        translated = self._translate(schema, closed=False)
        if not _has_fields(schema):
            translated.setdefault("additionalProperties", True)
        return translated

    def _property(self, name: str, schema: Schema) -> Schema:
        nullable = schema.get("x-nullable") or name in NULL_IN_DOCKER or self._may_be_nil(schema)
        translated = self._translate(schema)
        # unlike anyOf, this passes on what exactly is wrong
        return {"if": {"type": "null"}, "else": translated} if nullable else translated

    def _translate(self, schema: Schema, *, closed: bool = True) -> Schema:
        """Swagger 2 to JSON Schema: the constraints, without what only documents."""
        result: Schema = {}
        for key, value in schema.items():
            match key:
                case "properties":
                    result[key] = {name: self._property(name, each) for name, each in value.items()}
                case "items" | "additionalProperties" if isinstance(value, dict):
                    result[key] = self._translate(value)
                case "allOf":
                    result[key] = [self._translate(each, closed=False) for each in value]
                case "required":
                    result[key] = [name for name in value if name not in NOT_SENT]
                case "type" | "enum" | "minimum" | "maximum" | "additionalProperties" | "$ref":
                    result[key] = value
        if closed and ("$ref" in schema or _has_fields(schema)) and "additionalProperties" not in schema:
            result |= {"unevaluatedProperties": False}
        return result

    def _may_be_nil(self, schema: Schema) -> bool:
        if "$ref" in schema:
            return self._may_be_nil(self._swagger_definitions[schema["$ref"].rpartition("/")[2]])
        return "allOf" in schema or schema.get("type") in ("array", "object")


def _path_pattern(template: str) -> re.Pattern[str]:
    """A placeholder takes a name; those of images may hold slashes."""
    parts = re.split(r"\{\w+\}", template)
    return re.compile("(.+)".join(re.escape(part) for part in parts))


def _telling(errors: list[jsonschema.ValidationError]) -> list[jsonschema.ValidationError]:
    """Without the errors that follow from others: one wrong field makes all fields beside it look unknown."""
    paths = [list(error.absolute_path) for error in errors if error.validator != "unevaluatedProperties"]
    return [
        error
        for error in errors
        if error.validator != "unevaluatedProperties"
        or not any(path[: len(error.absolute_path)] == list(error.absolute_path) for path in paths)
    ]


def _has_fields(schema: Schema) -> bool:
    return bool({"properties", "allOf", "additionalProperties"} & schema.keys())
