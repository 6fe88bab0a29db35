"""Times mlx-vlm's processor; run by `benchmarks.compare` in an environment of its own, where this package is not.

Arguments: what to do, the number of runs, the folder of the tokenizer, the file for the pixel values, and `.npy` files.
Prints one line of JSON: the shortest run in milliseconds.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

QUESTION = "What do you see, and what do you hear? Answer in two sentences."


def main() -> None:
    """Do the work once, save its pixel values, then time it."""
    work, runs, folder, pixels_path, *paths = sys.argv[1:]
    arrays = [np.load(path) for path in paths]
    call = {"images": images, "video": video, "conversation": conversation}[work](folder, arrays)
    result = call()
    pixels = result["pixel_values_videos" if work == "video" else "pixel_values"]
    np.save(pixels_path, np.asarray(pixels[0] if isinstance(pixels, list) else pixels, np.float32))
    times = []
    for _ in range(int(runs)):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    print(json.dumps({"ms": min(times)}))


def images(_folder: str, arrays: list[Any]) -> Any:
    """Images of one call."""
    from mlx_vlm.models.gemma4_unified.processing_gemma4_unified import Gemma4UnifiedImageProcessor

    processor = Gemma4UnifiedImageProcessor()
    return lambda: processor(arrays)[0]


def video(_folder: str, arrays: list[Any]) -> Any:
    """All frames of a video."""
    from mlx_vlm.models.gemma4_unified.processing_gemma4_unified import Gemma4UnifiedVideoProcessor

    processor = Gemma4UnifiedVideoProcessor()
    return lambda: processor([arrays[0].transpose(0, 3, 1, 2)])


def conversation(folder: str, arrays: list[Any]) -> Any:
    """One chat turn, from messages to tensors."""
    from mlx_vlm.models.gemma4_unified.processing_gemma4_unified import Gemma4UnifiedProcessor
    from PIL import Image

    processor = Gemma4UnifiedProcessor.from_pretrained(folder)
    template = (Path(folder) / "chat_template.jinja").read_text(encoding="utf-8")
    image, audio = Image.fromarray(arrays[0]), arrays[1]
    content = [{"type": "image"}, {"type": "audio"}, {"type": "text", "text": QUESTION}]

    def call() -> Any:
        prompt = processor.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], chat_template=template, tokenize=False, add_generation_prompt=True
        )
        return processor(text=[prompt], images=[image], audio=[audio])

    return call


if __name__ == "__main__":
    main()
