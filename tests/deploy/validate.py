"""Checks Kubernetes resources against Kubernetes' own schemas, and prints them as JSON.

Reads YAML from standard input. Arguments: the versions of Kubernetes. A key that a schema does not know is a mistake.
Kinds that Kubernetes does not have are checked against schemas/KIND.json beside this file. Exits with 1, and every mistake
on standard error, where there is one.
"""

import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml


def mistakes(resource, versions):
    own = pathlib.Path(__file__).with_name("schemas") / f"{resource['kind'].lower()}.json"
    if own.exists():
        validator = jsonschema.Draft202012Validator(json.loads(own.read_text()))
        yield from (f"{error.json_path}: {error.message}" for error in validator.iter_errors(resource))
        return
    for version in versions:
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{version}: {'.'.join(map(str, error.path))}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield error.message


resources = [resource for resource in yaml.safe_load_all(sys.stdin) if resource]
found = [
    f"{resource['kind']} {resource['metadata']['name']}: {mistake}"
    for resource in resources
    for mistake in mistakes(resource, sys.argv[1:])
]
if found:
    sys.exit("\n".join(found))
json.dump(resources, sys.stdout)
