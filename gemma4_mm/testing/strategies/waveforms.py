"""Audio: waveforms of every kind, and sample counts around the edges of a frame."""

from typing import Final, Literal, get_args

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from gemma4_mm.errors import InputError
from gemma4_mm.spec import SAMPLE_RATE_HZ, SAMPLES_PER_TOKEN

Wave = Literal["noise", "tone", "chirp", "clipped", "faint", "loud", "silence"]
WAVES: Final[tuple[Wave, ...]] = get_args(Wave)


def make_wave(wave: Wave, *, n_samples: int, seed: int = 0) -> NDArray[np.float32]:
    """A waveform by its name at 16 kHz, float32 `(n_samples,)`; the same arguments give the same one.

    Args:
        wave: `noise`, `tone`, `chirp`, `clipped` (steps between -1 and 1), `faint` (denormal numbers), `loud` (outside
            -1 to 1, which the reference lets pass) or `silence` (zeros of both signs).
        n_samples: length.
        seed: another waveform of the same kind.

    Raises:
        InputError: an unknown wave.
    """
    generator = np.random.default_rng(seed)
    time_s = np.arange(n_samples) / SAMPLE_RATE_HZ
    match wave:
        case "noise":
            values = generator.uniform(-1, 1, n_samples)
        case "tone":
            values = np.sin(2 * np.pi * (50 + seed % 4000) * time_s)
        case "chirp":
            values = 0.7 * np.sin(2 * np.pi * (180 * time_s + (900 + seed % 997) * time_s**2))
        case "clipped":
            values = generator.choice([-1.0, 1.0], n_samples)
        case "faint":
            values = generator.uniform(-1, 1, n_samples) * 1e-39
        case "loud":
            values = generator.normal(0, 8, n_samples)
        case "silence":
            values = generator.choice([0.0, -0.0], n_samples)
        case _:
            raise InputError(f"wave is {wave!r}; known are: {', '.join(WAVES)}")
    return values.astype(np.float32)


@st.composite
def sample_counts(draw: st.DrawFn, *, min_samples: int = 0, max_samples: int = 40 * SAMPLE_RATE_HZ) -> int:
    """Lengths in samples up to 40 s, ten seconds beyond the reference's cap; often around a frame's edge, or short."""
    least, most = min_samples // SAMPLES_PER_TOKEN, max_samples // SAMPLES_PER_TOKEN
    frames = draw(st.one_of(st.integers(least, min(least + 3, most)), st.integers(least, most)))
    edges = st.sampled_from([0, 1, SAMPLES_PER_TOKEN - 1])
    n_samples = frames * SAMPLES_PER_TOKEN + draw(st.one_of(edges, st.integers(0, SAMPLES_PER_TOKEN - 1)))
    return min(max(n_samples, min_samples), max_samples)


@st.composite
def waveforms(draw: st.DrawFn, *, min_samples: int = 1, max_samples: int = 3000) -> NDArray[np.float32]:
    """Mono waveforms at 16 kHz, float32 `(samples,)`, with every remainder modulo a frame of 640."""
    n_samples = draw(
        st.one_of(
            st.integers(min_samples, max_samples), sample_counts(min_samples=min_samples, max_samples=max_samples)
        )
    )
    wave = draw(st.sampled_from(("noise", *WAVES)))
    return make_wave(wave, n_samples=n_samples, seed=draw(st.integers(0, 2**16)))
