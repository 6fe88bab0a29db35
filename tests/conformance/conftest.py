"""The oracle's process, started once per test process."""

import pytest

from gemma4_mm.conformance.run import finish_reference


@pytest.fixture(scope="session")
def reference(gemma4_parity):
    return gemma4_parity.reference


@pytest.fixture(scope="session")
def expected_of(reference):
    """Case to the reference's outcome."""

    def compute(case):
        reference.start(case)
        return finish_reference(reference, case)

    return compute
