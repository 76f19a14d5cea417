"""Judges Kubernetes objects, given as a JSON list on standard input: strictly, so that a misspelt
key is a fault, and for every version named. Prints the faults, one a line.

The schemas of Kubernetes come with the package kubernetes-validate. Those of custom resources are
in crds.json: the keys that the manifests may use, no others.
"""

import json
import pathlib
import sys

import celpy
import jsonschema
import kubernetes_validate

SINCE = {
    "MutatingAdmissionPolicy": (1, 36),
    "MutatingAdmissionPolicyBinding": (1, 36),
    "ValidatingAdmissionPolicy": (1, 30),
    "ValidatingAdmissionPolicyBinding": (1, 30),
}
CRDS = json.loads((pathlib.Path(__file__).parent / "crds.json").read_text())


def faults(thing, versions):
    kind = f"{thing['apiVersion']} {thing['kind']}"
    if kind in CRDS:
        # The definitions stand beside the schemas.
        schema = {**CRDS[kind], "$defs": CRDS["$defs"]}
        for error in jsonschema.Draft202012Validator(schema).iter_errors(thing):
            yield f"{error.json_path}: {error.message}"
        if unknown := thing.keys() - {"apiVersion", "kind", "metadata", "spec"}:
            yield f"{unknown} are not keys of it"
        return
    for version in versions:
        if tuple(map(int, version.split("."))) < SINCE.get(thing["kind"], (0, 0)):
            continue
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            yield f"Kubernetes {version} does not know it"
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {error}"
    for expression in cel(thing):
        try:
            celpy.Environment().compile(expression)
        except celpy.CELParseError as error:
            yield f"no CEL: {error}"


def cel(thing):
    """Every `expression` in it, which is CEL in the kinds that have them."""
    if isinstance(thing, dict):
        for key, value in thing.items():
            if key == "expression":
                yield value
            else:
                yield from cel(value)
    elif isinstance(thing, list):
        for value in thing:
            yield from cel(value)


for thing in json.load(sys.stdin):
    for fault in faults(thing, sys.argv[1:]):
        print(f"{thing['kind']} {thing['metadata']['name']}: {fault}")
