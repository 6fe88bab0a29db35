"""Target sizes and position ids, against a loop and against the live oracle."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gemma4_mm.core.vision.geometry import plan_image, position_ids
from gemma4_mm.errors import InputError
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.spec import SOFT_TOKEN_BUDGETS
from gemma4_mm.testing.strategies import budgets, sides_px
from tests.core.twins import slow_target


def planned(height_px, width_px, budget):
    """Rows and columns; None where the plan is an error."""
    try:
        grid = plan_image(height_px=height_px, width_px=width_px, max_soft_tokens=budget)
    except InputError:
        return None
    return grid.rows, grid.columns


@given(height_px=sides_px(), width_px=sides_px(), budget=budgets())
@settings(max_examples=1000)
@example(height_px=1, width_px=1120, budget=1120)
@example(height_px=1, width_px=100_000, budget=70)
@example(height_px=672, width_px=912, budget=280)
def test_grids_equal_the_slow_twin_and_fit_the_budget(height_px, width_px, budget):
    grid = planned(height_px, width_px, budget)
    assert grid == slow_target(height_px, width_px, budget)
    assert grid is None or 1 <= grid[0] * grid[1] <= budget


@pytest.mark.parity
@given(height_px=sides_px(), width_px=sides_px(), budget=budgets())
@settings(max_examples=2000)
def test_grids_are_those_of_the_oracle_for_images_and_videos(height_px, width_px, budget):
    from transformers.models.gemma4_unified import image_processing_gemma4_unified as images
    from transformers.models.gemma4_unified import video_processing_gemma4_unified as videos

    for module in (images, videos):
        try:
            height, width = module.get_aspect_ratio_preserving_size(height_px, width_px, 16, budget * 9, 3)
        except ValueError:
            assert planned(height_px, width_px, budget) is None
        else:
            assert planned(height_px, width_px, budget) == (height / 48, width / 48)


@pytest.mark.parametrize(
    ("height_px", "width_px", "message"),
    [
        (0, 5, "each side must be at least 1 px"),
        (5, -1, "each side must be at least 1 px"),
    ],
)
def test_empty_images_are_refused_in_words(height_px, width_px, message):
    with pytest.raises(InputError, match=message):
        plan_image(height_px=height_px, width_px=width_px)


def test_unknown_budgets_are_refused_in_words():
    with pytest.raises(InputError, match=r"max_soft_tokens is 100; it must be one of \(70, 140"):
        plan_image(height_px=5, width_px=5, max_soft_tokens=100)


@given(rows=st.integers(1, 40), columns=st.integers(1, 40))
def test_positions_are_x_then_y_row_by_row(rows, columns):
    ids = position_ids(PatchGrid(rows=rows, columns=columns))
    assert ids.dtype == np.int64
    assert ids.tolist() == [[x, y] for y in range(rows) for x in range(columns)]


def test_the_docstring_example():
    assert position_ids(PatchGrid(rows=2, columns=3)).tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]


@pytest.mark.parametrize("budget", SOFT_TOKEN_BUDGETS)
def test_a_grid_never_reaches_past_the_position_table(budget):
    widest = plan_image(height_px=1, width_px=budget, max_soft_tokens=budget)
    assert (widest.rows, widest.columns) == (1, budget)
    assert int(position_ids(widest).max()) < 1120
