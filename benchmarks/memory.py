"""`python -m benchmarks.memory`: peak memory of encoding one 12-megapixel image, over the decoded image.

Whole processes, ours and theirs. Each decodes a JPEG with Pillow, encodes a small image so that everything is loaded,
resets the kernel's high-water mark, and encodes the large one. Output included; Linux only.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from PIL import Image

from benchmarks.vision import photograph

HEIGHT_PX, WIDTH_PX = 3000, 4000
_RUNS: Final = 3
_MEASURE: Final = """
import sys
from PIL import Image
SETUP
encode(Image.new("RGB", (90, 70), (1, 2, 3)))
image = Image.open(sys.argv[1])
image.load()

def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))

with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")
before = status("VmRSS")
result = encode(image)
print(status("VmHWM") - before)
"""
_OURS: Final = """
from benchmarks.vision import encode_images_with
from gemma4_mm import Execution
execution = Execution(kernel="KERNEL", threads=THREADS)
encode = lambda image: encode_images_with(execution, [image])
"""
_THEIRS: Final = """
import torch
from transformers.models.gemma4_unified.image_processing_gemma4_unified import Gemma4UnifiedImageProcessor
torch.set_num_threads(THREADS)
processor = Gemma4UnifiedImageProcessor()
encode = lambda image: processor(image, return_tensors="pt")
"""


def main() -> None:
    """Print the peaks and their ratios."""
    peaks_mb = measure()
    for side, peak_mb in peaks_mb.items():
        print(f"{side:6}{peak_mb:7.1f} MB over the decoded image, HF / this {peaks_mb['HF'] / peak_mb:.1f}")


def measure() -> dict[str, float]:
    """Peak in MB of `numpy`, `numba` and `HF`: of each the least of its runs on one and on two threads."""
    setups = {
        "numpy": _OURS.replace("KERNEL", "numpy"),
        "numba": _OURS.replace("KERNEL", "numba"),
        "HF": _THEIRS,
    }
    peaks: dict[str, list[float]] = {side: [] for side in setups}
    with tempfile.TemporaryDirectory() as place:
        photo = Path(place) / "photo.jpg"
        Image.fromarray(photograph(height_px=HEIGHT_PX, width_px=WIDTH_PX)).save(photo, quality=92)
        for _ in range(_RUNS):
            for side, setup in setups.items():
                for threads in (1, 2):
                    code = _MEASURE.replace("SETUP", setup.replace("THREADS", str(threads)))
                    command = [sys.executable, "-W", "ignore", "-c", code, str(photo)]
                    run = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 (our own)
                    peaks[side].append(float(run.stdout.split()[-1]))
    return {side: min(values) for side, values in peaks.items()}


if __name__ == "__main__":
    main()
