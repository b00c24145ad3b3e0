from typing import Any

import pytest

from tests.support.api_definition import ApiDefinition

SWAGGER: dict[str, Any] = {
    "paths": {
        "/boats/json": {
            "get": {"responses": {200: {"schema": {"type": "array", "items": {"$ref": "#/definitions/Boat"}}}}}
        },
        "/boats/{id}": {
            "get": {"responses": {200: {"schema": {"$ref": "#/definitions/Ferry"}}, 404: {"$ref": "#/responses/Gone"}}},
            "delete": {"responses": {204: {"description": "no body"}}},
        },
    },
    "responses": {"Gone": {"schema": {"type": "object", "properties": {"message": {"type": "string"}}}}},
    "definitions": {
        "Boat": {
            "type": "object",
            "required": ["Name"],
            "properties": {
                "Name": {"type": "string", "example": "Wherry"},
                "Crew": {"type": "array", "items": {"type": "string"}},
                "Master": {"type": "string", "x-nullable": True},
                "Hull": {"$ref": "#/definitions/Hull"},
                "Labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "Extra": {"$ref": "#/definitions/Anything"},
            },
        },
        "Hull": {"type": "object", "properties": {"Metres": {"type": "integer"}}},
        "Anything": {"type": "object"},
        "Ferry": {
            "allOf": [
                {"$ref": "#/definitions/Boat"},
                {"type": "object", "properties": {"Cars": {"type": "integer"}}},
            ]
        },
    },
}


@pytest.fixture(scope="module")
def definition() -> ApiDefinition:
    return ApiDefinition(SWAGGER)


@pytest.mark.parametrize(
    "boat",
    [
        {"Name": "Ann"},
        {"Name": "Ann", "Master": None},
        {"Name": "Ann", "Crew": None, "Labels": None},
        {"Name": "Ann", "Labels": {"anything": "goes"}},
        {"Name": "Ann", "Extra": {"anything": ["goes"]}},
        {"Name": "Ann", "Hull": {"Metres": 7}},
    ],
)
def test_accepts_what_the_definition_allows(definition: ApiDefinition, boat: dict[str, Any]) -> None:
    definition.check("GET", "/boats/json", 200, [boat])


@pytest.mark.parametrize(
    ("boat", "complaint"),
    [
        ({}, "'Name' is a required property"),
        ({"Name": None}, "None is not of type 'string'"),
        ({"Name": "Ann", "name": "Ann"}, "'name' was unexpected"),
        ({"Name": "Ann", "Hull": {"Meters": 7}}, "'Meters' was unexpected"),
        ({"Name": "Ann", "Labels": {"length": 7}}, "7 is not of type 'string'"),
    ],
)
def test_says_what_is_wrong_and_where(definition: ApiDefinition, boat: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        definition.check("GET", "/boats/json", 200, [boat])


def test_schemas_put_together_by_all_of_know_the_fields_of_each(definition: ApiDefinition) -> None:
    definition.check("GET", "/boats/ann", 200, {"Name": "Ann", "Cars": 3})
    with pytest.raises(AssertionError, match="'Planes' was unexpected"):
        definition.check("GET", "/boats/ann", 200, {"Name": "Ann", "Planes": 3})


def test_takes_versions_queries_and_shared_answers(definition: ApiDefinition) -> None:
    definition.check("GET", "/v1.51/boats/json?all=1", 200, [])
    definition.check("GET", "/boats/ann", 404, {"message": "No such boat"})


def test_an_answer_without_a_body_must_have_none(definition: ApiDefinition) -> None:
    definition.check("DELETE", "/boats/ann", 204, b"")
    with pytest.raises(AssertionError, match="has no body"):
        definition.check("DELETE", "/boats/ann", 204, {"Name": "Ann"})


def test_knows_every_operation_of_the_real_definition() -> None:
    real = ApiDefinition.load()
    assert real.schema("GET", "/containers/json", 200) is not None
    assert real.schema("GET", "/v1.51/images/library/busybox:latest/json", 200) is not None
    with pytest.raises(KeyError, match="no answer 299"):
        real.schema("GET", "/containers/json", 299)
    with pytest.raises(KeyError, match="no GET /nothing"):
        real.schema("GET", "/nothing", 200)
