#!/usr/bin/env python3
"""Checks every event of the catalogue against the published OCSF schemas 1.5.0 and 1.8.0.

Needs `ocsf-json-schema` and `jsonschema` from PyPI. Reads leaves, one a line, from standard input:

    cargo run -q -p obscura-ocsf --example leaves | .tools/python/bin/python tests/ocsf/check.py

With `--trusted` it does not spoil anything before: for leaves of a log that need not have every kind of event.

Prints one line per event and exits 1 where one is not valid, has a field that the schema does not
know, or gives a number another name than the schema does. Before that it spoils an event in several
ways and exits 1 where the check does not notice.
"""

import copy
import json
import sys

import jsonschema
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

VERSIONS = ("1.5.0", "1.8.0")
ENVELOPE = {"specversion", "id", "source", "type", "time", "datacontenttype", "dataschema", "data"}


def main() -> int:
    leaves = [json.loads(line) for line in sys.stdin if line.strip()]
    if not leaves:
        print("FAILED: no event on standard input", file=sys.stderr)
        return 1
    schemas = [Schema(version) for version in VERSIONS]
    failed = "--trusted" not in sys.argv[1:] and check_the_check(leaves, schemas)
    for leaf in leaves:
        complaints = complaints_about(leaf, schemas)
        print("FAILED" if complaints else "ok", leaf["data"]["metadata"]["event_code"])
        for complaint in complaints:
            failed = True
            print("   ", complaint)
    print(f"{len(leaves)} events against OCSF {' and '.join(VERSIONS)}")
    return 1 if failed else 0


class Schema:
    """The classes of one version."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.raw = get_ocsf_schema(version)
        self.embedded = OcsfJsonSchemaEmbedded(self.raw)

    def complaints(self, data: dict) -> list[str]:
        try:
            name = self.embedded.lookup_class_name_from_uid(data.get("class_uid"))
        except ValueError as unknown:
            return [f"{self.version}: {unknown}"]
        profiles = data.get("metadata", {}).get("profiles", [])
        validator = jsonschema.Draft202012Validator(self.embedded.get_class_schema(name, profiles))
        found = [
            f"{self.version}: /{'/'.join(map(str, error.path))}: {error.message[:200]}"
            for error in validator.iter_errors(data)
        ]
        return found + self.names(name, data)

    def names(self, name: str, data: dict) -> list[str]:
        """What the JSON schema cannot say: numbers, captions and the sum that is `type_uid`."""
        known = self.raw["classes"][name]
        found = []
        if data.get("type_uid") != data.get("class_uid", 0) * 100 + data.get("activity_id", 0):
            found.append("type_uid is not class_uid * 100 + activity_id")
        if data.get("category_uid") != data.get("class_uid", 0) // 1000:
            found.append("category_uid is not that of the class")
        if data.get("class_name") != known["caption"]:
            found.append(f"class_name is not {known['caption']}")
        activity = known["attributes"]["activity_id"]["enum"].get(str(data.get("activity_id")), {})
        if data.get("activity_id") != 99 and data.get("activity_name") != activity.get("caption"):
            found.append(f"activity_name is not {activity.get('caption')}")
        return [f"{self.version}: {complaint}" for complaint in found]


def complaints_about(leaf: dict, schemas: list[Schema]) -> list[str]:
    found = []
    if set(leaf) != ENVELOPE or leaf.get("specversion") != "1.0":
        found.append("it is not a CloudEvent 1.0 with the expected attributes")
    if leaf["dataschema"].rsplit("/", 1)[-1] not in schemas[0].raw["classes"]:
        found.append("dataschema names no class")
    if leaf["data"]["metadata"].get("version") != VERSIONS[0]:
        found.append(f"metadata.version is not {VERSIONS[0]}")
    found += [complaint for schema in schemas for complaint in schema.complaints(leaf["data"])]
    whole = opened(leaf["data"])
    return found + [f"opened: {complaint}" for schema in schemas for complaint in schema.complaints(whole)]


def opened(data: dict) -> dict:
    """The event with something at each place whose value is sealed: those places must exist, too."""
    data = copy.deepcopy(data)
    for pointer in data["unmapped"].pop("sealed", {}) if "unmapped" in data else ():
        at = data
        *path, last = pointer.split("/")[1:]
        for name in path:
            at = at.setdefault(name, {})
        at[last] = "192.0.2.1" if last == "ip" else "opened"
    return data


def check_the_check(leaves: list[dict], schemas: list[Schema]) -> bool:
    """Whether a spoilt event gets through."""
    good = next(leaf for leaf in leaves if leaf["data"]["class_uid"] == 6005)
    spoilt = {
        "an unknown field": lambda data: data.update(camera="x"),
        "an unknown field of an object": lambda data: data["databucket"].update(camera="x"),
        "a missing field": lambda data: data.pop("time"),
        "a wrong type": lambda data: data.update(time="yesterday"),
        "a wrong activity": lambda data: data.update(activity_id=77),
        "a class that does not exist": lambda data: data.update(class_uid=6999),
        "something sealed at a place that does not exist": lambda data: data["unmapped"]["sealed"].update(
            {"/actor/user/shoe_size": "AAAA"}
        ),
        "a field that only 1.8.0 has": lambda data: data["metadata"].update(is_truncated=False),
    }
    failed = False
    for what, spoil in spoilt.items():
        bad = copy.deepcopy(good)
        spoil(bad["data"])
        if not complaints_about(bad, schemas):
            failed = True
            print(f"FAILED: {what} was not noticed", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
