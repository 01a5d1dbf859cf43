"""Witness of JSON schemas -> goldens/text/schemas.json.

Each case is a schema and texts; PyPI `jsonschema` says of each text whether it is JSON that satisfies the schema.

A grammar that binds an answer token by token leaves less choice than a schema: properties come in the schema's order, and a
string has one spelling.  The texts keep to that, so that the grammar must allow exactly what the validator accepts.

    pip install -r scripts/witness/requirements-schemas.txt
    python3 scripts/witness/schemas.py
"""

import json

from jsonschema import Draft202012Validator, FormatChecker

from golden_io import write_golden


def closed(**properties):
    """An object of these properties and no others, all required: what `strict` asks for."""
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


TREE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
    "required": ["name", "children"],
    "additionalProperties": False,
}

CASES = {
    "strict object": (
        closed(city={"type": "string"}, days={"type": "integer"}),
        [
            '{"city":"Paris","days":3}',
            '{"city": "Paris", "days": -12}',
            '{\n  "city": "Köln 🎈",\n  "days": 0\n}',
            '{"city":"a\\"b\\\\c\\n","days":10}',
            '{"city":"Paris"}',
            '{"days":3}',
            '{"city":"Paris","days":"3"}',
            '{"city":"Paris","days":3.5}',
            '{"city":"Paris","days":3,"more":1}',
            '{"city":1,"days":3}',
            '{}',
            '["city"]',
            '"city"',
            '{"city":"Paris","days":03}',
            '{"city":"Paris","days":3',
            '{"city":"Paris","days":3}}',
        ],
    ),
    "optional and additional": (
        {"type": "object", "properties": {"a": {"type": "boolean"}}, "additionalProperties": {"type": "integer"}},
        ['{}', '{"a":true}', '{"a":false,"b":1}', '{"b":1,"c":2}', '{"a":1}', '{"b":true}', '{"a":true,"b":"x"}'],
    ),
    "any object": (
        {"type": "object"},
        ['{}', '{"a":[1,{"b":null}],"c":1.5e3}', '[]', '1', '{"a":}', '{"a":1,}', '{a:1}'],
    ),
    "bounds": (
        closed(age={"type": "integer", "minimum": 0, "maximum": 120}, share={"type": "number", "exclusiveMinimum": 0}),
        [
            '{"age":0,"share":0.25}',
            '{"age":120,"share":7}',
            '{"age":121,"share":1}',
            '{"age":-1,"share":1}',
            '{"age":5,"share":0}',
            '{"age":5,"share":-0.5}',
            '{"age":1200,"share":1}',
        ],
    ),
    "lengths": (
        {"type": "string", "minLength": 2, "maxLength": 4},
        ['"ab"', '"abcd"', '"äöüß"', '"a"', '"abcde"', '""', '"äöüßé"'],
    ),
    "items": (
        {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
        ['[1]', '[1,2,3]', '[1, 2]', '[]', '[1,2,3,4]', '[1,"2"]', '[1,]', '[[1]]'],
    ),
    "a prefix of items": (
        {"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}], "items": False, "minItems": 2},
        ['["a",true]', '["a"]', '[true,"a"]', '["a",true,1]'],
    ),
    "enum": (
        closed(unit={"enum": ["celsius", "fahrenheit", 3, None]}),
        ['{"unit":"celsius"}', '{"unit":3}', '{"unit":null}', '{"unit":"kelvin"}', '{"unit":"cel"}', '{"unit":4}'],
    ),
    "const": (closed(kind={"const": "point"}), ['{"kind":"point"}', '{"kind":"points"}', '{"kind":"line"}']),
    "any of": (
        {"anyOf": [closed(kind={"const": "circle"}, r={"type": "number"}), closed(kind={"const": "dot"})]},
        ['{"kind":"circle","r":1}', '{"kind":"dot"}', '{"kind":"dot","r":1}', '{"kind":"circle"}', '{"kind":"square"}'],
    ),
    "a type or null": (
        closed(note={"type": ["string", "null"]}),
        ['{"note":"x"}', '{"note":null}', '{"note":1}', '{}'],
    ),
    "recursion": (
        {"$ref": "#/$defs/tree", "$defs": {"tree": TREE}},
        [
            '{"name":"a","children":[]}',
            '{"name":"a","children":[{"name":"b","children":[{"name":"c","children":[]}]}]}',
            '{"name":"a","children":[{"name":"b"}]}',
            '{"name":"a","children":[1]}',
        ],
    ),
    "pattern": (
        {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"},
        ['"AB-1"', '"XY-20260101"', '"ab-1"', '"ABC-1"', '"AB-"', '"AB-1x"'],
    ),
    "formats": (
        closed(day={"type": "string", "format": "date"}, host={"type": "string", "format": "ipv4"}),
        [
            '{"day":"2024-02-29","host":"127.0.0.1"}',
            '{"day":"2024-13-01","host":"127.0.0.1"}',
            '{"day":"2024-01-32","host":"127.0.0.1"}',
            '{"day":"tomorrow","host":"127.0.0.1"}',
            '{"day":"2024-01-31","host":"127.0.0.256"}',
        ],
    ),
    "all of": (
        {"allOf": [{"type": "integer", "minimum": 10}, {"maximum": 19, "multipleOf": 3}]},
        ['12', '18', '9', '21', '13', '"12"'],
    ),
    "keys by pattern": (
        {"type": "object", "patternProperties": {"^n_": {"type": "integer"}}, "additionalProperties": False},
        ['{}', '{"n_a":1,"n_b":2}', '{"n_a":"1"}', '{"a":1}'],
    ),
    "keys that need an escape": (
        closed(**{'say "hi"': {"type": "null"}, "tab\t": {"type": "null"}}),
        ['{"say \\"hi\\"":null,"tab\\t":null}', '{"say hi":null,"tab":null}'],
    ),
}


def is_valid(schema, text):
    """Whether `text` is JSON and satisfies `schema`."""
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return Draft202012Validator(schema, format_checker=FormatChecker()).is_valid(value)


def case(schema, texts):
    """A case as the golden has it; the schema as text, for its order counts."""
    Draft202012Validator.check_schema(schema)
    verdicts = [{"text": text, "valid": is_valid(schema, text)} for text in texts]
    assert {verdict["valid"] for verdict in verdicts} == {True, False}, "a case tells good from bad"
    return {"schema": json.dumps(schema), "texts": verdicts}


write_golden(
    "text/schemas",
    {name: case(*parts) for name, parts in CASES.items()},
    producer="schemas.py",
    source="Verdicts of PyPI jsonschema (Draft 2020-12, with formats) about texts of JSON.",
    packages=["jsonschema"],
    upstream="PyPI jsonschema 4.26.0",
)
