"""A hit gives the very bits of a miss, and of no cache at all, for every form in which media come."""

import copy
import io
import os
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from gemma4_mm import (
    Execution,
    Gemma4MMError,
    LimitError,
    Limits,
    MediaCache,
    MediaError,
    MissingDependencyError,
    Processor,
    Profile,
)
from gemma4_mm.cli.demo_media import write_clip
from gemma4_mm.media.versions import decoder_versions
from gemma4_mm.testing.strategies import template_calls
from tests.media.files import image_bytes, oriented, scene, write_sound

OPTIONS = {"max_soft_tokens": 70, "num_frames": 2}


@pytest.fixture(scope="module")
def cached(assets, tmp_path_factory):
    """A processor whose cache every test replaces."""
    return Processor(assets, cache=MediaCache(tmp_path_factory.mktemp("cache")))


def encode(processor, kind, value, **options):
    turn = {"role": "user", "content": [{"type": kind, kind: value}]}
    return processor.apply_chat_template([turn], tokenize=True, return_dict=True, **{**OPTIONS, **options})


def assert_same(ours, theirs):
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        assert (ours[key].dtype, ours[key].shape) == (value.dtype, value.shape), key
        assert ours[key].tobytes() == value.tobytes(), key
    assert ours.segments == theirs.segments


@given(call=template_calls())
@settings(max_examples=60)
def test_hits_and_misses_give_the_bits_of_no_cache(processor, cached, tmp_path_factory, call):
    cached.cache = MediaCache(tmp_path_factory.mktemp("cache"))
    arguments = {"tokenize": True, "return_dict": True}
    plain = processor.apply_chat_template(copy.deepcopy(call.conversation), **arguments, **call.arguments)
    for _ in range(2):
        ours = cached.apply_chat_template(call.conversation, **arguments, **call.arguments)
        assert_same(ours, plain)
    items = sum(len(plain.token_counts[kind]) for kind in ("image", "video"))  # audio comes as samples
    assert cached.cache.stats.hits >= items
    cached.cache = MediaCache(cached.cache.directory, max_memory_bytes=0)  # and from disk
    assert_same(cached.apply_chat_template(call.conversation, **arguments, **call.arguments), plain)
    assert (cached.cache.stats.hits, cached.cache.stats.misses) == (items, 0)


def palette_image(*, transparency=None):
    image = Image.fromarray(scene(height_px=40, width_px=50)).quantize(16)
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def video_file(folder, **size):
    write_clip(folder / "clip.mp4", duration_s=0.4, **size)
    return (folder / "clip.mp4").read_bytes()


FORMS = {
    "jpeg bytes": lambda _: ("image", image_bytes(Image.fromarray(scene(height_px=40, width_px=50)), "JPEG")),
    "exif bytes": lambda _: ("image", oriented(Image.fromarray(scene(height_px=40, width_px=50)), "JPEG", 6)),
    "exif opened": lambda _: (
        "image",
        Image.open(io.BytesIO(oriented(Image.fromarray(scene(height_px=40, width_px=50)), "JPEG", 6))),
    ),
    "palette": lambda _: ("image", palette_image()),
    "transparent palette": lambda _: ("image", palette_image(transparency=1)),
    "rgba": lambda _: ("image", Image.fromarray(scene(height_px=40, width_px=50, channels=4))),
    "channels first": lambda _: ("image", scene(height_px=40, width_px=50).transpose(2, 0, 1)),
    "strided": lambda _: ("image", scene(height_px=80, width_px=100)[::2, ::2]),
    "video bytes": lambda folder: ("video", video_file(folder, width_px=64, height_px=48)),
    "video array": lambda _: ("video", np.stack([scene(height_px=30, width_px=40, shift=i) for i in range(3)])),
    "video frames": lambda _: ("video", [Image.fromarray(scene(height_px=30, width_px=40, shift=i)) for i in range(3)]),
    "wav bytes": lambda folder: (
        "audio",
        write_sound(folder / "s.wav", rate_hz=44_100, n_samples=5000, channels=2).read_bytes(),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found_again(processor, cached, tmp_path, form):
    kind, value = FORMS[form](tmp_path)
    expected = encode(processor, kind, value)
    cached.cache = MediaCache(tmp_path / "cache")
    for hits in (0, 1, 2):
        assert_same(encode(cached, kind, value), expected)
        assert (cached.cache.stats.hits, cached.cache.stats.misses) == (hits, 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("exif bytes", "exif opened"),  # the file is turned, the opened image is not
        ("palette", "transparent palette"),
        ("jpeg bytes", "rgba"),
    ],
)
def test_what_differs_for_the_model_does_not_share_a_key(processor, cached, tmp_path, one, other):
    cached.cache = MediaCache(tmp_path / "cache")
    results = []
    for form in (one, other):
        kind, value = FORMS[form](tmp_path)
        results.append(encode(cached, kind, value))
        assert_same(results[-1], encode(processor, kind, value))
    assert cached.cache.stats.hits == 0
    assert not np.array_equal(results[0]["pixel_values"], results[1]["pixel_values"])


def test_only_the_palette_tells_two_images_apart(processor, cached, tmp_path):
    cached.cache = MediaCache(tmp_path / "cache")
    one, other = palette_image(), palette_image()
    other.putpalette([255 - value for value in other.getpalette()])
    assert one.tobytes() == other.tobytes()
    encode(cached, "image", one)
    assert_same(encode(cached, "image", other), encode(processor, "image", other))


def test_the_same_pixels_in_another_layout_share_a_key(cached, tmp_path):
    cached.cache = MediaCache(tmp_path / "cache")
    pixels = scene(height_px=40, width_px=50)
    for value in (pixels, Image.fromarray(pixels), np.asfortranarray(pixels), pixels.transpose(2, 0, 1).copy()):
        encode(cached, "image", value)
    assert (cached.cache.stats.hits, cached.cache.stats.misses) == (3, 1)


def test_names_and_times_are_no_part_of_the_key_and_contents_are(processor, cached, tmp_path):
    cached.cache = MediaCache(tmp_path / "cache")
    first, second = (image_bytes(Image.fromarray(scene(height_px=40, width_px=50, shift=i)), "BMP") for i in (0, 1))
    assert len(first) == len(second)
    path, copied = tmp_path / "a.bmp", tmp_path / "b.image"
    path.write_bytes(first)
    copied.write_bytes(first)
    encode(cached, "image", str(path))
    for same in (copied, first, io.BytesIO(first)):
        encode(cached, "image", same)
    assert (cached.cache.stats.hits, cached.cache.stats.misses) == (3, 1)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(second)  # the same name, size and time
    os.utime(path, ns=times)
    assert_same(encode(cached, "image", path), encode(processor, "image", second))
    assert cached.cache.stats.misses == 2


def test_options_profiles_and_limits_are_part_of_the_key(assets, processor, cached, tmp_path):
    cached.cache = cache = MediaCache(tmp_path / "cache")
    picture = FORMS["exif bytes"](tmp_path)[1]
    encode(cached, "image", picture)
    assert_same(
        encode(cached, "image", picture, max_soft_tokens=140), encode(processor, "image", picture, max_soft_tokens=140)
    )
    clip = video_file(tmp_path, width_px=64, height_px=48)
    for options in ({"num_frames": 2}, {"num_frames": 3}, {"do_sample_frames": False}):
        assert_same(encode(cached, "video", clip, **options), encode(processor, "video", clip, **options))
    frames = FORMS["video array"](tmp_path)[1]
    for fps in (10.0, 20.0):  # the pixels are the same, the timestamps in the prompt are not
        options = {"video_metadata": {"total_num_frames": 3, "fps": fps}}
        assert_same(encode(cached, "video", frames, **options), encode(processor, "video", frames, **options))
    assert cache.stats.hits == 0
    old = Profile.transformers("5.12")  # EXIF of files ignored
    assert_same(
        encode(Processor(assets, profile=old, cache=cache), "image", picture),
        encode(Processor(assets, profile=old), "image", picture),
    )
    with pytest.raises(LimitError):
        encode(Processor(assets, limits=Limits(max_pixels=100), cache=cache), "image", picture)
    assert cache.stats.hits == 0


def test_lengths_may_differ_between_hits_of_one_sound(processor, cached, tmp_path):
    cached.cache = MediaCache(tmp_path / "cache")
    path = write_sound(tmp_path / "s.wav", rate_hz=22_050, n_samples=20_000)
    for lengths in (
        {},
        {"audio_kwargs": {"max_length": 3}},
        {"audio_kwargs": {"padding": "max_length", "max_length": 40}},
    ):
        assert_same(encode(cached, "audio", path, **lengths), encode(processor, "audio", path, **lengths))
    assert (cached.cache.stats.hits, cached.cache.stats.misses) == (2, 1)


@pytest.mark.parametrize("kind", ["image", "video", "audio"])
@pytest.mark.parametrize("bad", [b"", b"no medium at all, whatever its name", "missing.file", 5])
def test_errors_are_those_of_no_cache(processor, cached, tmp_path, kind, bad):
    cached.cache = MediaCache(tmp_path / "cache")
    messages = []
    for candidate in (processor, cached, cached):
        with pytest.raises(Gemma4MMError) as caught:
            encode(candidate, kind, bad)
        messages.append(str(caught.value))
    assert len(set(messages)) == 1


def test_a_file_that_changes_while_it_is_decoded_is_not_kept(cached, tmp_path, monkeypatch):
    """Its bytes are hashed again afterwards: the pixels of one content are never kept under another's key."""
    from gemma4_mm.encode import images

    cached.cache = MediaCache(tmp_path / "cache")
    path = tmp_path / "a.bmp"
    path.write_bytes(image_bytes(Image.fromarray(scene(height_px=40, width_px=50)), "BMP"))
    original = images.encode_image

    def encode_and_overwrite(*arguments, **options):
        original(*arguments, **options)
        path.write_bytes(image_bytes(Image.fromarray(scene(height_px=40, width_px=50, shift=9)), "BMP"))

    monkeypatch.setattr(images, "encode_image", encode_and_overwrite)
    encode(cached, "image", path)
    monkeypatch.undo()
    path.unlink()
    with pytest.raises(MediaError):
        encode(cached, "image", path)
    assert list((tmp_path / "cache").rglob("*.safetensors")) == []


def test_a_pillow_image_given_twice_is_decoded_by_one_thread_at_a_time(assets, processor, tmp_path, monkeypatch):
    """Its pixels are read for the key, too; until it is decoded, a second reader would find half of them."""
    cached = Processor(assets, cache=MediaCache(tmp_path / "cache"), execution=Execution(threads=4))
    image = Image.open(io.BytesIO(image_bytes(Image.fromarray(scene(height_px=40, width_px=50)), "PNG")))
    load, decoding, decoded, met = image.load, threading.Lock(), threading.Event(), threading.Event()

    def slowly():
        if decoded.is_set():
            return load()
        if not decoding.acquire(blocking=False):
            met.set()
            return load()
        time.sleep(0.05)
        pixels = load()
        decoded.set()
        return pixels

    monkeypatch.setattr(image, "load", slowly)
    ours = cached.encode_prompts("<|image|>" * 4, images=[image] * 4, max_soft_tokens=70)
    monkeypatch.undo()
    assert_same(ours, processor.encode_prompts("<|image|>" * 4, images=[image] * 4, max_soft_tokens=70))
    assert decoded.is_set()
    assert not met.is_set()


@pytest.mark.parametrize(("kind", "library"), [("image", "PIL.features"), ("video", "av"), ("audio", "soundfile")])
def test_what_is_decoded_needs_no_decoder(cached, tmp_path, monkeypatch, kind, library):
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    decoder_versions.cache_clear()
    cached.cache = MediaCache(tmp_path / "cache")
    arrays = {
        "image": scene(height_px=40, width_px=50),
        "video": FORMS["video array"](tmp_path)[1],
        "audio": np.linspace(-1, 1, 1000, dtype=np.float32),
    }
    encode(cached, kind, arrays[kind])
    with pytest.raises(MissingDependencyError):
        decoder_versions(kind)
