"""What the admission policies do with real objects: their CEL is evaluated by cel-python.

Reads from standard input `{"policies": [...], "objects": [...]}` and prints for each object the changed object and
the messages of what refuses it, as a JSON list of `{"object": ..., "refused": [...]}`.

A mutation's expression makes typed objects, as `Object.spec.volumes{ name: ... }` and `JSONPatch{ op: ... }`. CEL
knows these types from the cluster only; here they are maps. A misspelt field is found by the schema afterwards.
"""

import copy
import json
import re
import sys

import celpy

KINDS = {"pods": "Pod", "services": "Service"}
TYPED = re.compile(r"\b(?:Object(?:\.\w+)*|JSONPatch)\s*\{")
FIELD = re.compile(r"([{,]\s*)(\w+):(?=\s)")


def plain(expression):
    """Typed objects as maps; the names of their fields become strings. Texts between quotes stay as they are."""
    texts = []

    def keep(text):
        texts.append(text.group())
        return f"\0{len(texts) - 1}\0"

    expression = re.sub(r'"(?:\\.|[^"\\])*"', keep, expression)
    expression = FIELD.sub(r'\1"\2":', TYPED.sub("{", expression))
    return re.sub(r"\0(\d+)\0", lambda number: texts[int(number.group(1))], expression)


def evaluate(expression, thing, variables=None):
    environment = celpy.Environment()
    program = environment.program(environment.compile(plain(expression)))
    context = {"object": celpy.json_to_cel(thing), "variables": celpy.json_to_cel(variables or {})}
    return python(program.evaluate(context))


def python(value):
    """In Python's own types. An error in a part of a map is an error of the whole."""
    if isinstance(value, celpy.CELEvalError):
        raise value
    if isinstance(value, dict):
        return {str(key): python(part) for key, part in value.items()}
    if isinstance(value, list):
        return [python(part) for part in value]
    if isinstance(value, celpy.celtypes.BoolType):
        return bool(value)
    return int(value) if isinstance(value, int) else str(value)


def matches(policy, thing):
    constraints = policy["spec"]["matchConstraints"]
    wanted = constraints["objectSelector"]["matchLabels"]
    labels = thing["metadata"].get("labels") or {}
    kinds = [KINDS[name] for rule in constraints["resourceRules"] for name in rule["resources"]]
    conditions = policy["spec"].get("matchConditions", [])
    return (
        thing["kind"] in kinds
        and all(labels.get(key) == value for key, value in wanted.items())
        and all(evaluate(condition["expression"], thing) is True for condition in conditions)
    )


def patched(thing, patch):
    """JSON Patch, as far as the policies use it: `add` (RFC 6902)."""
    assert patch["op"] == "add", patch
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in patch["path"].split("/")[1:]]
    for part in parents:
        thing = thing[int(part)] if isinstance(thing, list) else thing[part]
    if isinstance(thing, list):
        thing.insert(len(thing) if last == "-" else int(last), patch["value"])
    else:
        thing[last] = patch["value"]


def admitted(policies, thing):
    thing, refused = copy.deepcopy(thing), []
    for policy in policies:
        try:
            if policy["kind"] == "MutatingAdmissionPolicy" and matches(policy, thing):
                for mutation in policy["spec"]["mutations"]:
                    for patch in evaluate(mutation["jsonPatch"]["expression"], thing):
                        patched(thing, patch)
        except (celpy.CELEvalError, KeyError) as error:
            assert policy["spec"]["failurePolicy"] == "Fail"
            refused.append(f"{policy['metadata']['name']}: {error}")
    for policy in policies:
        if policy["kind"] == "ValidatingAdmissionPolicy" and matches(policy, thing):
            said = policy["spec"].get("variables", [])
            variables = {variable["name"]: evaluate(variable["expression"], thing) for variable in said}
            for validation in policy["spec"]["validations"]:
                if evaluate(validation["expression"], thing, variables) is not True:
                    refused.append(validation["message"])
    return {"object": thing, "refused": refused}


given = json.load(sys.stdin)
json.dump([admitted(given["policies"], thing) for thing in given["objects"]], sys.stdout)
