"""Print pip constraints that pin every dependency of pyproject.toml to the lowest version that it allows.

A requirement without a lower bound is an error: it would be tested at no particular version.
"""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("audio", "video", "cli", "fast", "testing")  # what tests without torch, Core AI and Ray run on
BOUND = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?>=(?P<version>[0-9][0-9.]*)(,.*)?$")

lowest: dict[str, str] = {}
requirements = list(PROJECT["dependencies"])
for extra in EXTRAS:
    requirements += PROJECT["optional-dependencies"][extra]
for requirement in requirements:
    match = BOUND.match(requirement.replace(" ", ""))
    if match is None:
        sys.exit(f"pyproject.toml: {requirement!r} has no lower bound; write it as name>=version")
    if lowest.setdefault(match["name"], match["version"]) != match["version"]:
        sys.exit(
            f"pyproject.toml: {match['name']} has two lower bounds, {lowest[match['name']]} and {match['version']}"
        )
sys.stdout.writelines(f"{name}=={version}\n" for name, version in sorted(lowest.items()))
