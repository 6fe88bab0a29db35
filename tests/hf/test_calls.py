"""The calls that people make on transformers' processor, on it and on ours."""

import copy
import pickle

import numpy as np
import pytest
from PIL import Image

from gemma4_mm.testing.strategies.images import make_picture
from tests.hf.same import assert_same, compare

pytestmark = pytest.mark.parity

PHOTO = make_picture("photo", height_px=301, width_px=417)
CLIP = np.stack([make_picture("noise", height_px=90, width_px=160, seed=seed) for seed in range(6)])
SOUND = np.sin(np.arange(20_000) / 9).astype(np.float32)
PILLOW = Image.fromarray(PHOTO)
USER = {"role": "user", "content": [{"type": "image", "image": PILLOW}, {"type": "text", "text": "What?"}]}
REPLY = {"role": "assistant", "content": [{"type": "text", "text": "A photo"}]}
HEARD = {"role": "user", "content": [{"type": "audio", "audio": SOUND}, {"type": "image", "image": PHOTO}]}


def get_weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: where.
    """
    return city


def template(messages, **options):
    given = {"tokenize": True, "return_dict": True, "return_tensors": "pt", **options}
    return lambda p: p.apply_chat_template(copy.deepcopy(messages), **given)


WITH_PIXELS = {
    "text and image": lambda p: p(text="<|image|> a", images=PILLOW, return_tensors="pt"),
    "no text": lambda p: p(images=[PILLOW, PHOTO], return_tensors="pt"),
    "a batch, padded": lambda p: p(
        text=["<|image|> a", "<|image|><|image|> longer"], images=[[PILLOW], [PHOTO, PHOTO[:50]]], return_tensors="pt",
        padding=True,
    ),
    "padding to a length, on the left": lambda p: p(
        text="<|image|>", images=PILLOW, return_tensors="pt", padding="max_length", max_length=400, padding_side="left"
    ),
    "numpy": lambda p: p(text="<|image|>", images=PILLOW, return_tensors="np"),
    "lists": lambda p: p(text="<|image|>", images=PILLOW),
    "budget": lambda p: p(text="<|image|>", images=PILLOW, return_tensors="pt", images_kwargs={"max_soft_tokens": 70}),
    "everything": lambda p: p(
        text="<|image|><|video|><|audio|>", images=PILLOW, videos=CLIP, audio=SOUND, return_tensors="pt",
        videos_kwargs={"do_sample_frames": False},
    ),
    "sampled video": lambda p: p(text="<|video|>", videos=CLIP, return_tensors="pt", num_frames=3),
    "chat": template([USER], add_generation_prompt=True),
    "chat, processor_kwargs": template([USER], processor_kwargs={"images_kwargs": {"max_soft_tokens": 140}}),
    "chats": template([[USER, REPLY], [HEARD]], padding=True),
    "tools": template([USER], tools=[get_weather]),
    "continued": template([USER, REPLY], continue_final_message=True),
    "own template": template([USER], chat_template="{{ bos_token }}<|image|>{{ messages[0]['role'] }}"),
    "no dict": template([USER], return_dict=False),
    "assistant mask": template([USER, REPLY], return_assistant_tokens_mask=True),
    "image processor": lambda p: p.image_processor([PILLOW, PHOTO], return_tensors="pt"),
    "image processor, numpy": lambda p: p.image_processor(PHOTO, return_tensors="np"),
    "changed result": lambda p: changed(p(text="<|image|>", images=PILLOW, return_tensors="pt")),
}  # fmt: skip
WITH_FRAMES = {
    "video processor": lambda p: p.video_processor(CLIP, do_sample_frames=False, return_tensors="pt"),
    "video processor, metadata": lambda p: p.video_processor(
        CLIP, return_metadata=True, video_metadata=[{"total_num_frames": 6, "fps": 2.0}], num_frames=2
    ),
}
WITHOUT_PIXELS = {
    "text": lambda p: p(text=["a", "longer"], return_tensors="pt", padding=True),
    "untokenized": lambda p: p.apply_chat_template([USER], tokenize=False),
    "audio": lambda p: p.feature_extractor(SOUND, sampling_rate=16000, return_tensors="pt"),
    "tokenizer": lambda p: p.tokenizer("a", add_special_tokens=False),
    "decode": lambda p: p.batch_decode([[2, 500]], skip_special_tokens=True, clean_up_tokenization_spaces=False),
    "post-process": lambda p: p.post_process_image_text_to_text(np.array([[2, 500]])),
    "names": lambda p: [p.image_token_id, p.boi_token, p.video_token_id, p.model_input_names, p.tokenizer.pad_token_id],
    "counts": lambda p: vars(p._get_num_multimodal_tokens(image_sizes=[[301, 417]], video_sizes=[[6, 90, 160]])),
    "too many images": lambda p: p(text="a", images=PILLOW),
    "an unknown budget": lambda p: p(text="<|image|>", images=PILLOW, images_kwargs={"max_soft_tokens": 71}),
    "nothing": lambda p: p(),
    "saved form": lambda p: p.to_dict(),
    "printed form": lambda p: [repr(p.image_processor), repr(p.video_processor), p.to_json_string()],
}


def changed(inputs):
    import torch

    inputs["labels"] = inputs.input_ids.clone()
    inputs.pop("mm_token_type_ids")
    return inputs.to("cpu", torch.bfloat16)


@pytest.mark.parametrize("name", WITH_PIXELS)
def test_a_call_with_images_is_ours_and_equal_in_every_bit(name, theirs, fast, ours):
    result = compare(theirs, fast, WITH_PIXELS[name])
    assert not isinstance(result, Exception) or name == "assistant mask", result
    assert ours.images + ours.videos >= (not isinstance(result, Exception))


@pytest.mark.parametrize("name", WITH_FRAMES)
def test_a_call_with_frames_is_ours_and_equal_in_every_bit(name, theirs, fast, ours):
    assert not isinstance(compare(theirs, fast, WITH_FRAMES[name]), Exception)
    assert ours.videos == 1


@pytest.mark.parametrize("name", WITHOUT_PIXELS)
def test_other_calls_are_equal(name, theirs, fast, ours):
    compare(theirs, fast, WITHOUT_PIXELS[name])
    assert (ours.images, ours.videos) == (0, 0)


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))],  # noqa: S301
    ids=["copy", "deep", "pickle"],
)
def test_a_duplicate_is_fast_and_keeps_its_execution(duplicate, theirs, ours):
    from gemma4_mm import Execution
    from gemma4_mm.hf import Gemma4UnifiedProcessorFast

    fast = Gemma4UnifiedProcessorFast.from_hf(theirs, execution=Execution(kernel="numpy", threads=2))
    other = duplicate(fast)
    assert type(other) is Gemma4UnifiedProcessorFast
    assert other.execution == other.video_processor.execution == Execution(kernel="numpy", threads=2)
    compare(theirs, other, WITH_PIXELS["everything"])
    assert (ours.images, ours.videos) == (1, 1)


def _first(batch):
    return batch[0]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_loader_workers_give_the_same(start, theirs, fast):
    from torch.utils.data import DataLoader

    from tests.hf.rows import Rows

    loader = DataLoader(
        Rows(fast.image_processor, [PHOTO, PHOTO[:77]]), num_workers=1, multiprocessing_context=start, collate_fn=_first
    )
    for image, given in zip([PHOTO, PHOTO[:77]], loader, strict=True):
        assert_same(theirs.image_processor(image, return_tensors="pt")["pixel_values"], given)
