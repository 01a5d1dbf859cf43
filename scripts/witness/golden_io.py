"""Write a golden payload and, beside it, the sidecar that says where it came from."""

import hashlib
import importlib.metadata
import json
import pathlib
import platform

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
GOLDENS = ROOT / "goldens"


def sha256_hex(data):
    """Hex SHA-256 of a bytes-like object."""
    return hashlib.sha256(data).hexdigest()


def package_versions(names):
    """The Python version and the installed version of each named package."""
    versions = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), **versions}


def to_json_bytes(value):
    """JSON with sorted keys and a final newline, as bytes."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode("ascii")


def write_payload(name, suffix, data, *, producer, source, packages, upstream=None, arguments=""):
    """Write `goldens/<name><suffix>` and `goldens/<name>.provenance.json`.

    `producer` is a file name in this folder, `packages` the PyPI packages whose versions matter, `arguments` the
    command-line arguments with placeholders in place of local paths.
    """
    script = f"scripts/witness/{producer}"
    sidecar = {
        "producer": script,
        "source": source,
        "packages": package_versions(packages),
        "upstream": upstream,
        "command": f"python3 {script} {arguments}".rstrip(),
        "payload_sha256": sha256_hex(data),
        "reason": "first witness",
    }
    path = GOLDENS / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.with_name(path.name.removesuffix(suffix) + ".provenance.json").write_bytes(to_json_bytes(sidecar))
    print(f"{path.relative_to(ROOT)}: {len(data)} bytes")


def write_golden(name, payload, **origin):
    """Write the golden `name` whose payload is JSON; `origin` as for `write_payload`."""
    write_payload(name, ".json", to_json_bytes(payload), **origin)
