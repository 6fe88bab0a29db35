"""A real peer through the harness. Opt-in: it needs an environment with mlx-vlm.

python -m venv mlx && mlx/bin/pip install 'mlx-vlm[cpu]==0.7.10' soundfile
MLX_VLM_PYTHON=mlx/bin/python pytest tests/conformance/peers
"""

import os

import pytest

from gemma4_mm.conformance.cases import select_cases
from gemma4_mm.conformance.run import run_parity

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif("MLX_VLM_PYTHON" not in os.environ, reason="needs MLX_VLM_PYTHON, an interpreter with mlx-vlm"),
]


def test_mlx_vlm_resizes_with_pillow(reference):
    from tests.conformance.peers.mlx_subject import run_case

    cases = select_cases(["image-noise", "image-letters", "image-texture", "pitfall-pillow-resize", "exif-6"])
    report = run_parity(cases, run_case, reference, subject_name="mlx-vlm", profile="-", partial=True)
    assert not report.passed
    resized = [result for result in report.failures if result.stage == "resized_rgb"]
    assert {result.case for result in resized} >= {"image-noise", "image-letters", "pitfall-pillow-resize"}
    assert {result.suspects[0].name for result in resized} == {"pillow-bicubic"}
    noise = next(result for result in resized if result.case == "image-noise")
    assert 0.002 < noise.n_different / noise.n_values < 0.01
    right = {(result.case, result.stage) for result in report.results if result.status == "equal"}
    assert ("image-noise", "target_size") in right
    assert ("image-noise", "position_ids") in right
