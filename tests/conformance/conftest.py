"""The oracle's process, started once per test process."""

import pytest

from gemma4_mm.conformance.reference import Reference
from gemma4_mm.conformance.run import finish_reference


@pytest.fixture(scope="session")
def reference(assets):  # noqa: ARG001 (fills the cache)
    with Reference() as reference:
        yield reference


@pytest.fixture(scope="session")
def expected_of(reference):
    """Case to the reference's outcome."""

    def compute(case):
        reference.start(case)
        return finish_reference(reference, case)

    return compute
