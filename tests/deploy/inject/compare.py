"""Whether manifests that went through `hookgate inject` are what they were, but for the gate.

usage: compare.py BEFORE AFTER [untouched]

PyYAML reads both: it knows YAML 1.1, as Kubernetes does. From AFTER everything that is the gate's is taken
out, by rules of this file's own; what is left must be BEFORE, with the same order of documents and keys. With
`untouched` nothing is taken out. Prints what differs.
"""

import json
import sys

import yaml

OURS = "hookgate/injected"


def documents(path):
    with open(path) as file:
        return [document for document in yaml.load_all(file, yaml.CSafeLoader) if document is not None]


def objects(documents):
    for document in documents:
        yield from document["items"] if document["kind"].endswith("List") else [document]


def empty(value):
    return value in (None, [], {})


def strip(thing, before):
    """Takes the gate out of one object. What was empty or not there before may be either afterwards."""
    metadata = thing["metadata"]
    record = (metadata.get("annotations") or {}).pop(OURS, None)
    if record is None:
        return
    record = json.loads(record)
    if empty(metadata.get("annotations")) and empty((before["metadata"]).get("annotations")):
        metadata.pop("annotations", None)
        before["metadata"].pop("annotations", None)
    if thing["kind"] == "Service":
        taken = dict(record["ports"])
        for port, was in zip(thing["spec"]["ports"], before["spec"]["ports"]):
            if str(port.get("name", port["port"])) in taken:
                assert port["targetPort"] in (17080, 17443), port
                port.pop("targetPort")
                was.pop("targetPort", None)
        return
    spec = thing["spec"] if thing["kind"] == "Pod" else thing["spec"]["template"]["spec"]
    old = before["spec"] if before["kind"] == "Pod" else before["spec"]["template"]["spec"]
    gates = [c for key in ("initContainers", "containers") for c in spec.get(key) or [] if c["name"] == "hookgate"]
    assert len(gates) == 1, gates
    mounted = {mount["name"] for mount in gates[0].get("volumeMounts", [])}
    for key in ("initContainers", "containers"):
        if spec.get(key):
            spec[key] = [container for container in spec[key] if container["name"] != "hookgate"]
    names = {volume["name"] for volume in old.get("volumes") or []}
    if spec.get("volumes"):
        new = [volume for volume in spec["volumes"] if volume["name"] not in names]
        assert all(volume["name"] in mounted and volume["name"].startswith("hookgate-") for volume in new), new
        spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] in names]
    for key in ("initContainers", "volumes"):
        if empty(spec.get(key)) and empty(old.get(key)):
            spec.pop(key, None)
            old.pop(key, None)
    for container, was in zip(spec["containers"], old["containers"]):
        if not (was.get("lifecycle") or {}).get("preStop") and container.get("lifecycle"):
            hook = container["lifecycle"].pop("preStop", None)
            assert hook is None or container["name"] == record["container"], hook
        if empty(container.get("lifecycle")) and empty(was.get("lifecycle")):
            container.pop("lifecycle", None)
            was.pop("lifecycle", None)


before, after = documents(sys.argv[1]), documents(sys.argv[2])
if "untouched" not in sys.argv[3:]:
    after = [d for d in after if "hookgate/made-for" not in (d.get("metadata", {}).get("annotations") or {})]
    for was, thing in zip(objects(before), objects(after)):
        strip(thing, was)
text = [json.dumps(side, indent=1, default=str) for side in (before, after)]
if text[0] != text[1]:
    import difflib

    print("\n".join(difflib.unified_diff(*(side.splitlines() for side in text), lineterm="", n=2)))
