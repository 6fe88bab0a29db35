"""Conversations with real media for the session and for Hugging Face, and the reply that Hugging Face writes."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gemma4_mm.coreai.bundle.bundle import Bundle
from gemma4_mm.coreai.run.reply import GenerationOptions
from gemma4_mm.coreai.run.session import Session

N_TOKENS = 24
WORDS = "describe the picture and the sound of this video please hello what is in it you are the model answer "


def picture(seed: int, *, height: int = 40, width: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def sound(seed: int, *, n_samples: int = 3000) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, n_samples).astype(np.float32)


def clip(seed: int, *, n_frames: int = 5) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n_frames, 30, 45, 3), dtype=np.uint8)


def user(*parts: Any) -> dict[str, Any]:
    """A user's turn; strings are text, pictures images, 1-D arrays audio, 4-D arrays video."""
    content = []
    for part in parts:
        if isinstance(part, str):
            kind = "text"
        elif isinstance(part, Image.Image):
            kind = "image"
        else:
            kind = "audio" if part.ndim == 1 else "video"
        content.append({"type": kind, kind: part})
    return {"role": "user", "content": content}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "text": [user("hello, what are you?")],
    "text with a system turn": [
        {"role": "system", "content": "answer in the colour of the picture"},
        user("naïve 🙂?"),
    ],
    "text over many windows": [user(WORDS * 4)],
    "one image": [user(picture(0), "what is this?")],
    "two images": [user(picture(1), "compare with", picture(2, height=90, width=33), "please")],
    "three images and nothing between them": [user(picture(3), picture(4, height=9, width=99), picture(5))],
    "a video": [user(clip(6), "describe the video")],
    "two videos": [user(clip(7), "and", clip(8, n_frames=4), "compare")],
    "an audio": [user("what sound is this?", sound(9))],
    "two audios": [user(sound(10, n_samples=640), "and", sound(11, n_samples=9001))],
    "image, audio and video": [user(picture(12), "and", sound(13), "and", clip(14), "what is in it?")],
    "two turns of text": [user("hello"), assistant("hello, you are the user"), user("what is the colour?")],
    "two turns of pictures": [user(picture(15), "this?"), assistant("a picture"), user("and this?", picture(16))],
    "two turns of all": [
        user(sound(17), "this?", picture(18)),
        assistant("the sound of a picture"),
        user(clip(19), "and this video?"),
    ],
}


def hf_processor(bundle: Bundle) -> Any:
    """Hugging Face's own processor over the bundle's tokenizer, template and configuration."""
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(bundle.tokenizer_path)


def hf_reply(
    model: Any, processor: Any, messages: Any, *, rule: str, suppressed: tuple[int, ...], n_tokens: int = N_TOKENS
) -> tuple[list[int], NDArray[np.float32]]:
    """Greedy ids and their logits from `generate`: a dynamic cache for `forward`, a static one for `static`."""
    import torch

    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    cache = {"cache_implementation": "static", "disable_compile": True} if rule == "static" else {}
    with torch.no_grad():
        output = model.generate(
            **inputs,
            **cache,
            max_new_tokens=n_tokens,
            do_sample=False,
            eos_token_id=None,
            suppress_tokens=list(suppressed),
            output_logits=True,
            return_dict_in_generate=True,
        )
    n_prompt = inputs["input_ids"].shape[1]
    return output.sequences[0, n_prompt:].tolist(), torch.stack(output.logits)[:, 0].numpy()


class Recorder:
    """A logits processor that changes nothing and keeps what it saw."""

    def __init__(self) -> None:
        self.rows: list[NDArray[np.float32]] = []

    def __call__(self, ids: Any, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        assert len(ids) == len(self.rows)
        self.rows.append(logits)
        return logits


def reply(session: Session, messages: Any, **options: Any) -> tuple[list[int], NDArray[np.float32]]:
    """The same from a session: ids, and the logits of each; stop tokens stop nothing."""
    recorder = Recorder()
    given = GenerationOptions(**{"max_tokens": N_TOKENS, "stop_ids": (), "logits_processor": recorder} | options)
    written = session.generate(messages, given)
    return written.ids, np.stack(recorder.rows)


def with_files(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A conversation that names files, and the same for Hugging Face, which is handed the decoded picture."""
    from gemma4_mm.cli.demo_media import write_photo, write_sound

    write_photo(folder / "photo.jpg", width_px=300, height_px=200)
    write_sound(folder / "sound.wav", duration_s=0.4)
    photo, wav = str(folder / "photo.jpg"), str(folder / "sound.wav")

    def turn(image: Any) -> list[dict[str, Any]]:
        text = {"type": "text", "text": "what is in the picture and the sound?"}
        return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "audio", "audio": wav}, text]}]

    return turn(photo), turn(Image.open(photo))
