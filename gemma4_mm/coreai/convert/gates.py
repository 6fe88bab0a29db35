"""Is the asset what the model computes? Peak signal-to-noise ratios of the four functions, on fixed random inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.coreai.run.runtime import FunctionName, Runtime
from gemma4_mm.errors import InvariantError

Reference = Literal["graph", "weights"]
Probes = dict[FunctionName, dict[str, NDArray[Any]]]
Outputs = dict[FunctionName, NDArray[np.float32]]

# Apple's gates for exported models, in dB: float32 end to end over 70, 4-bit weights about 40.
GATES_DB: Final[Mapping[Reference, float]] = {"graph": 70.0, "weights": 40.0}
_TOKENS: Final = 20
_SOFT_TOKENS: Final = 6
_SEED: Final = 20260603


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One comparison.

    Attributes:
        function: which of the four.
        reference: `graph`, the converted model run by torch, so that only the conversion differs; or `weights`, the
            model before quantisation, so that the quantisation differs too.
        psnr_db: 20·log10(peak of the reference / root mean square error); infinite where nothing differs.
    """

    function: FunctionName
    reference: Reference
    psnr_db: float

    @property
    def gate_db(self) -> float:
        """Apple's bound. Advice against `weights`: random weights do not survive 4 bits as trained ones do."""
        return GATES_DB[self.reference]

    @property
    def passed(self) -> bool:
        """Whether the ratio reaches the bound."""
        return self.psnr_db >= self.gate_db

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "missed"
        ratio = f"{self.psnr_db:.1f} dB, gate {self.gate_db:.0f} dB"
        return f"{self.function} against its {self.reference}: {ratio}, {verdict}"


def psnr_db(reference: NDArray[Any], actual: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB of two arrays of one shape."""
    error = float(np.sqrt(np.mean((reference.astype(np.float64) - actual) ** 2)))
    peak = float(np.abs(reference).max())
    return float("inf") if error == 0 else 20 * float(np.log10(peak / error))


def make_probes(*, vocabulary: int, hidden: int, patch_values: int, samples_per_token: int) -> Probes:
    """Fixed random inputs of the four functions, without batch axes; states start empty."""
    rng = np.random.default_rng(_SEED)
    ids = rng.integers(0, vocabulary, _TOKENS)
    causal = np.tri(_TOKENS, dtype=np.bool_)
    sliding = causal & ~np.tri(_TOKENS, k=-(_TOKENS // 2), dtype=np.bool_)
    embeds = rng.standard_normal((_TOKENS, hidden), np.float32)
    grid = np.stack(np.divmod(np.arange(_SOFT_TOKENS), 2), axis=-1)
    return {
        "main": {"input_ids": ids},
        "prefill_multimodal": {
            "input_ids": ids,
            "mm_embeds": embeds,
            "mm_mask": np.arange(_TOKENS) % 3 == 0,
            "mask_sliding": sliding,
            "mask_global": causal,
        },
        "embed_vision": {
            "pixel_values": rng.random((_SOFT_TOKENS, patch_values), np.float32),
            "image_position_ids": grid,
        },
        "embed_audio": {
            "input_features": 0.1 * rng.standard_normal((_SOFT_TOKENS, samples_per_token), np.float32),
        },
    }


def run_asset(runtime: Runtime, probes: Probes) -> Outputs:
    """Outputs of the asset, all rows."""
    outputs: Outputs = {}
    for name, inputs in probes.items():
        state = runtime.new_state() if runtime.functions[name].states else None
        outputs[name] = runtime.run(name, inputs, state=state, rows="all")
    return outputs


def compare(outputs: Outputs, expected: Outputs, *, reference: Reference) -> tuple[Gate, ...]:
    """Compare function by function."""
    return tuple(
        Gate(function=name, reference=reference, psnr_db=psnr_db(expected[name], outputs[name])) for name in expected
    )


def require_passed(gates: tuple[Gate, ...]) -> None:
    """Refuse an asset that does not compute what its own graph does.

    Raises:
        InvariantError: a gate against the graph is missed.
    """
    missed = [str(gate) for gate in gates if gate.reference == "graph" and not gate.passed]
    if missed:
        raise InvariantError(f"the converted asset is not its model: {'; '.join(missed)}; do not use it, report it")
