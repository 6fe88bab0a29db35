"""`python -m tests.memory_probe HOW PATH`: encode one file in a process of its own and report its peak memory as JSON.

No tokenizer is loaded: that alone would take more than what is to be seen here.
"""

import json
import sys
from pathlib import Path

from gemma4_mm.assets.processor_config import ProcessorConfig
from gemma4_mm.core.outputs import DEFAULT_OUTPUTS
from gemma4_mm.encode.access import Access
from gemma4_mm.encode.audio import stream_audio
from gemma4_mm.encode.media import open_media, write_media
from gemma4_mm.encode.videos import stream_video
from gemma4_mm.request.batch import collect_batch
from gemma4_mm.request.options import resolve_options
from gemma4_mm.spec import AUDIO_TOKEN, VIDEO_TOKEN

ACCESS = Access()  # the default limits allow four hours
STATUS = Path("/proc/self/status")


def peak_bytes():
    """Highest resident memory of this process so far; `ru_maxrss` may count that of the process it was forked from."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def options(num_frames):
    return resolve_options({"num_frames": num_frames}, config=ProcessorConfig())


def encode(num_frames, *, text, videos=None, audio=None):
    batch = collect_batch(text=text, images=None, videos=videos, audio=audio)
    media = open_media(batch, options(num_frames), ACCESS)
    return write_media(media, options(num_frames), ACCESS).tensors


def encode_sound(path):
    features = encode(None, text=AUDIO_TOKEN, audio=[path])["input_features"]
    return {"held_bytes": features.nbytes, "n": features.shape[1]}


def stream_sound(path):
    return {"held_bytes": 0, "n": sum(len(block) for block in stream_audio(path, frames_per_block=1500, access=ACCESS))}


def encode_film(path, num_frames):
    frames = encode(int(num_frames), text=VIDEO_TOKEN, videos=[path])["pixel_values_videos"]
    return {"held_bytes": frames.nbytes, "n": len(frames)}


def stream_film(path, num_frames):
    frames = stream_video(path, options=options(int(num_frames)).video, access=ACCESS, outputs=DEFAULT_OUTPUTS)
    return {"held_bytes": 0, "n": sum(1 for _frame in frames)}


if __name__ == "__main__":
    how, *arguments = sys.argv[1:]
    calls = {call.__name__: call for call in (encode_sound, stream_sound, encode_film, stream_film)}
    result = calls[how](*arguments)
    sys.stdout.write(json.dumps({**result, "peak_bytes": peak_bytes()}))
