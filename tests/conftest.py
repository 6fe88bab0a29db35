"""Shared by all tests: the Hypothesis profile, and short names for what `gemma4_mm.testing.plugin` gives."""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from gemma4_mm.assets.find import Assets
from gemma4_mm.processor import Processor

# One named profile for every budget: seeded, so that a red run is red again; no deadline, since machines differ.
settings.register_profile(
    "ci", derandomize=True, deadline=None, print_blob=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _one_torch_thread(request: pytest.FixtureRequest) -> None:
    """Two workers share two cores: the oracle computes on one thread."""
    if request.node.get_closest_marker("parity"):
        import torch

        torch.set_num_threads(1)


# Short names for the plugin's fixtures


@pytest.fixture(scope="session")
def assets(gemma4_assets: Assets) -> Assets:
    """The published tokenizer, template and configuration."""
    return gemma4_assets


@pytest.fixture(scope="session")
def hf_processor(gemma4_oracle: Any) -> Any:
    """The live oracle: transformers' `Gemma4UnifiedProcessor` over the published files."""
    return gemma4_oracle


@pytest.fixture(scope="session")
def processor(gemma4_processor: Processor) -> Processor:
    """Ours, over the published files."""
    return gemma4_processor
