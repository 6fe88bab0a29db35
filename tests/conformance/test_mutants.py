"""No wrong port passes: each of the mutants fails a committed case, or is proven to be equivalent."""

import numpy as np
import pytest

from tests.conformance.mutants import port
from tests.conformance.mutants.harness import MUTANTS, Suite, planted


@pytest.fixture(scope="module")
def suite():
    return Suite()


def test_the_right_port_passes_every_case(suite):
    module = suite.load(None)
    found = {name: suite.first_difference(module, name) for name in suite.names}
    assert {name: stage for name, stage in found.items() if stage} == {}
    assert len(found) >= 124


def test_mutants_are_many_and_each_is_another():
    assert len(MUTANTS) >= 200
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    texts = [planted(mutant) for mutant in MUTANTS]
    assert len(set(texts)) >= len(texts) - 2
    assert sum(bool(mutant.proof) for mutant in MUTANTS) <= 12


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_mutant_fails_a_case_and_is_named(suite, mutant):
    verdict = suite.judge(mutant, name_it=bool(mutant.named))
    assert bool(verdict.killed_by) != bool(mutant.proof)
    assert verdict.named == mutant.named


def test_alpha_is_rounded_to_the_nearest_for_every_colour():
    """The proof of two equivalents: all 65,536 pairs of colour and alpha."""
    colour, alpha = np.mgrid[0:256, 0:256]
    rgba = np.stack([colour, colour, colour, alpha], axis=-1).astype(np.uint8)
    whole = colour * alpha + 255 * (255 - alpha)
    assert np.array_equal(port.composite(rgba)[..., 0], (2 * whole + 255) // 510)
    assert not (whole % 255 == 127.5).any()


def test_one_row_or_column_is_as_long_as_the_budget():
    """The proof of four equivalents: wherever a side would be 0, the limit is reached."""
    for budget in (70, 140, 280, 560, 1120):
        for short in range(1, 40):
            edge = short * budget
            for long in (*range(edge - 3, edge + 4), 2 * edge + 1):
                rows, columns = port.target_size(short, long, budget)
                if rows == 1 and columns == budget:
                    assert round(long / short) >= budget
                else:
                    assert rows * columns <= budget
