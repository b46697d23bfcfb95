"""Holds each line of a file against a JSON Schema: 1 for valid, 0 for not.

usage: schema_check.py SCHEMA.json LINES.jsonl
"""

import json
import sys

from jsonschema import Draft202012Validator

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
with open(sys.argv[2], encoding="utf-8") as file:
    for line in file:
        print(int(validator.is_valid(json.loads(line))))
