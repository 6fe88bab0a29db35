"""The media arguments of a processor call, sorted into prompts and items as Hugging Face sorts them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Final

import numpy as np

from gemma4_mm.errors import InputError
from gemma4_mm.prompt.messages import ConversationBatch
from gemma4_mm.spec import AUDIO_TOKEN, IMAGE_TOKEN

_IMAGE_NDIM: Final = 3
_BATCHED_NDIM: Final = 4


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Prompts and the media that they show, undecoded.

    Attributes:
        texts: one prompt per row.
        images: images per prompt.
        videos: all videos, in order of appearance.
        audio: all audios, in order of appearance.
        marked: whether control tokens that a user typed are marked in the texts; see `prompt.control_tokens`.
    """

    texts: tuple[str, ...]
    images: tuple[tuple[Any, ...], ...]
    videos: tuple[Any, ...]
    audio: tuple[Any, ...]
    marked: bool = False

    @property
    def all_images(self) -> tuple[Any, ...]:
        """All images, in order of appearance."""
        return tuple(image for per_prompt in self.images for image in per_prompt)


def collect_batch(*, text: Any, images: Any, videos: Any, audio: Any) -> Batch:
    """Sort the arguments of `processor(text=…, images=…, videos=…, audio=…)`.

    One string is one prompt. A flat list of images belongs to one prompt; several prompts take nested lists. Without a
    text, images make prompts of bare placeholders joined by one space, and audios one prompt each, as the reference
    does.

    Raises:
        InputError: neither text nor images nor audio, or media in a form that the reference refuses.
    """
    nested = None if images is None else _nest_images(images)
    sounds = None if audio is None else tuple(_flatten_audio(audio))
    clips = () if videos is None else tuple(_flatten_videos(videos))
    if isinstance(text, str):
        text = [text]
    if not text and nested:
        text = [" ".join([IMAGE_TOKEN] * len(per_prompt)) for per_prompt in nested]
    if not text and sounds:
        text = [AUDIO_TOKEN] * len(sounds)
    if not text:
        raise InputError("nothing to encode; pass text, images or audio")
    if not isinstance(text, list | tuple) or not all(isinstance(prompt, str) for prompt in text):
        raise InputError(f"text is {type(text).__name__}; it must be a string or a list of strings")
    return Batch(
        texts=tuple(text),
        images=tuple(nested) if nested is not None else ((),) * len(text),
        videos=clips,
        audio=sounds or (),
    )


def collect_conversations(conversations: ConversationBatch, prompts: Sequence[str], *, marked: bool) -> Batch:
    """Sort the media of conversations under their rendered prompts."""
    media = [part for conversation in conversations.conversations for part in conversation.media]
    return Batch(
        texts=tuple(prompts),
        images=tuple(
            tuple(part.source for part in conversation.media if part.kind == "image")
            for conversation in conversations.conversations
        ),
        videos=tuple(part.source for part in media if part.kind == "video"),
        audio=tuple(part.source for part in media if part.kind == "audio"),
        marked=marked,
    )


def _nest_images(images: Any) -> list[tuple[Any, ...]]:
    """Images per prompt. Source: transformers 5.24 `make_nested_list_of_images`."""
    if not isinstance(images, list | tuple):
        return [_split_array(images)]
    inner = [isinstance(entry, list | tuple) for entry in images]
    if all(inner):
        return [tuple(per_prompt) for per_prompt in images]
    if any(inner):
        raise InputError("images mixes single images and lists; nest them per prompt: images=[[a, b], [c]]")
    if isinstance(images[0], np.ndarray) and images[0].ndim == _BATCHED_NDIM:
        return [_split_array(array) for array in images]
    return [tuple(single for image in images for single in _split_array(image))]


def _split_array(image: Any) -> tuple[Any, ...]:
    """One image, or the images of a 4-D array."""
    if not isinstance(image, np.ndarray) or image.ndim == _IMAGE_NDIM:
        return (image,)
    if image.ndim == _BATCHED_NDIM:
        return tuple(image)
    raise InputError(
        f"an image array has shape {image.shape}; it must be (height, width, channels), (channels, height, width), or "
        "4-D for several images; add a channel axis to a grayscale array: array[None]"
    )


def _flatten_videos(videos: Any) -> Iterator[Any]:
    """Single videos: files, 4-D arrays, or lists of frames. Source: transformers 5.24 `make_batched_videos`."""
    if isinstance(videos, np.ndarray) and videos.ndim > _BATCHED_NDIM:
        yield from videos
    elif isinstance(videos, np.ndarray) and videos.ndim <= _IMAGE_NDIM:
        yield videos[None]
    elif not isinstance(videos, list | tuple):
        yield [videos] if _is_frame(videos) else videos
    elif videos and all(_is_frame(entry) for entry in videos):
        yield videos
    else:
        for entry in videos:
            yield from _flatten_videos(entry)


def _is_frame(value: Any) -> bool:
    """A single picture: a Pillow image or an array of at most three axes."""
    return value.ndim <= _IMAGE_NDIM if isinstance(value, np.ndarray) else hasattr(value, "getbands")


def _flatten_audio(audio: Any) -> Iterator[Any]:
    """Source: transformers 5.24 `fetch_audio` and `make_list_of_audio`: a list of numbers is one waveform."""
    if not isinstance(audio, list | tuple) or (audio and isinstance(audio[0], Real)):
        yield audio
        return
    for entry in audio:
        yield from _flatten_audio(entry)
