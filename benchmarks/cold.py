"""`python -m benchmarks.cold`: from process start to tensors on disk, against the same through `AutoProcessor`.

Whole processes in turn, ours and theirs, each with a warm file cache; the ratio is of the medians. Equality of the two
files is asserted before anything is timed.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from gemma4_mm.assets.find import fetch_assets
from gemma4_mm.cli.demo_media import write_photo

RUNS = 5
PROMPT = "What do you see?"
# What a user of transformers writes for the same job.
THEIRS = """
import sys
from transformers import AutoProcessor
from safetensors.torch import save_file
from PIL import Image
folder, photo, prompt, output = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder)
content = [{"type": "image", "image": Image.open(photo)}, {"type": "text", "text": prompt}]
messages = [{"role": "user", "content": content}]
inputs = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)
save_file(dict(inputs), output)
"""


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """Seconds from process start to tensors on disk, medians.

    Attributes:
        ours_s: `gemma4-mm encode`.
        theirs_s: a script with `AutoProcessor`.
    """

    ours_s: float
    theirs_s: float


def main() -> None:
    """Print both medians and their ratio."""
    result = measure()
    ratio = result.theirs_s / result.ours_s
    print(
        f"gemma4-mm encode photo.jpg: {result.ours_s:.2f} s, AutoProcessor: {result.theirs_s:.2f} s, ratio {ratio:.1f}"
    )


def measure() -> ColdStart:
    """Time both in turn, after a run of each that fills the file cache and is compared."""
    folder = str(fetch_assets().tokenizer.parent)
    with tempfile.TemporaryDirectory() as place:
        photo, ours, theirs = (Path(place) / name for name in ("photo.jpg", "ours.safetensors", "theirs.safetensors"))
        write_photo(photo)
        our_command = [sys.executable, "-m", "gemma4_mm", "encode", str(photo), "-p", PROMPT, "-o", str(ours)]
        their_command = [sys.executable, "-c", THEIRS, folder, str(photo), PROMPT, str(theirs)]
        _time_process(our_command)
        _time_process(their_command)
        _assert_equal(ours, theirs)
        times = [(_time_process(our_command), _time_process(their_command)) for _ in range(RUNS)]
    our_s, their_s = (statistics.median(column) for column in zip(*times, strict=True))
    return ColdStart(ours_s=our_s, theirs_s=their_s)


def _time_process(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 (our own command lines)
    return time.perf_counter() - started


def _assert_equal(ours: Path, theirs: Path) -> None:
    mine, reference = load_file(ours), load_file(theirs)
    assert mine.keys() == reference.keys()
    for key, value in reference.items():
        assert np.array_equal(mine[key], value), key


if __name__ == "__main__":
    main()
