"""`plan` is the first half of a call: the same layout, the same refusals, before anything is decoded."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gemma4_mm import AudioLength, Gemma4MMError, ImageSize, InputError, Limits, Processor, Profile, VideoSize
from gemma4_mm.media.audio import AudioSource
from gemma4_mm.media.image import ImageSource
from gemma4_mm.media.video import VideoSource
from tests.media.files import image_bytes, oriented, photo, scene, wav_bytes, write_sound, write_video

PROFILES = ("5.12", "5.18", "5.21", "5.24")


class Pool(dict):
    """Media by kind; short in a report of a failing example, which would print every pixel."""

    def __repr__(self):
        return f"Pool({ {kind: len(items) for kind, items in self.items()} })"


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Real files, arrays and wrong things, by kind."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "turned.jpg").write_bytes(oriented(photo(), "JPEG", 6))
    mp3 = write_sound(
        folder / "a.mp3", rate_hz=44_100, n_samples=9_000, form="MP3", subtype="MPEG_LAYER_III"
    ).read_bytes()
    (folder / "stream.mp3").write_bytes(mp3[mp3.index(mp3[:2], 4) :])
    clip = np.stack([scene(height_px=30, width_px=40, shift=shift) for shift in range(9)])
    items = {
        "images": [
            folder / "turned.jpg",
            (folder / "turned.jpg").read_bytes(),
            image_bytes(photo(height_px=20, width_px=700), "PNG"),
            photo(height_px=3, width_px=900),
            Image.open(io.BytesIO(image_bytes(photo(), "PNG"))),
            scene(height_px=40, width_px=50),
            scene(height_px=40, width_px=50, channels=4),
            np.zeros((1, 5000, 3), np.float32),
            b"no image",
            folder / "missing.png",
        ],
        "videos": [
            write_video(folder / "a.mp4", n_frames=12),
            write_video(folder / "turned.mp4", n_frames=5, rotation=90),
            write_video(folder / "packets.mkv", n_frames=7),
            clip,
            list(clip[:4]),
            [Image.fromarray(frame) for frame in clip[:5]],
            b"no video",
            clip.astype(np.float32),
        ],
        "audio": [
            write_sound(folder / "a.wav", rate_hz=16_000, n_samples=1_000),
            write_sound(folder / "b.flac", rate_hz=44_100, n_samples=9_001, channels=2, form="FLAC"),
            folder / "a.mp3",
            folder / "stream.mp3",
            wav_bytes(data_size=0xFFFFFFFF),
            np.zeros(641, np.float32),
            [0.0] * 10,
            np.zeros(700, np.int16),
            b"no sound",
        ],
    }
    return Pool(items)


@pytest.fixture(scope="module")
def processors(assets):
    return {
        (version, tight): Processor(
            assets,
            profile=Profile.transformers(version),
            limits=Limits(max_pixels=10_000, max_frames=6, max_seconds=0.4) if tight else None,
        )
        for version in PROFILES
        for tight in (False, True)
    }


def rarely(n):
    """True once in about `n` draws; Hypothesis likes the ends of a range, so it stands in the middle."""
    return st.integers(0, n).map(lambda number: number == n // 2)


GOOD = {"images": 7, "videos": 6, "audio": 7}  # the first so many of each kind; the others are wrong
OPTIONS = st.fixed_dictionaries(
    {"num_frames": st.sampled_from([1, 2, 3, 4, 5, 9])},
    optional={
        "max_soft_tokens": st.sampled_from([70, 140, 70, 71, 140]),
        "do_sample_frames": st.booleans(),
        "text_kwargs": st.fixed_dictionaries(
            {},
            optional={
                "padding": st.sampled_from([True, False, "longest", "max_length"]),
                "max_length": st.sampled_from([1, 20, 320, 960]),
                "truncation": st.booleans(),
            },
        ),
        "padding_side": st.sampled_from(["left", "right"]),
        "pad_to_multiple_of": st.sampled_from([8, 64]),
        "audio_kwargs": st.fixed_dictionaries(
            {}, optional={"padding": st.sampled_from([True, False]), "max_length": st.sampled_from([1, 5])}
        ),
    },
)


@st.composite
def calls(draw):
    """Indices of media, one or two prompts over them, and options."""
    counts = {kind: draw(st.integers(0, 2)) for kind in ("images", "videos", "audio")}
    chosen = {
        kind: [draw(st.integers(0, 10)) for _ in range(count)]
        if draw(rarely(8))
        else [draw(st.integers(0, GOOD[kind] - 1)) for _ in range(count)]
        for kind, count in counts.items()
    }
    placeholders = draw(
        st.permutations(
            ["<|image|>"] * counts["images"] + ["<|video|>"] * counts["videos"] + ["<|audio|>"] * counts["audio"]
        )
    )
    if draw(rarely(20)):
        placeholders = [*placeholders, "<|audio|>"]  # which nothing stands behind
    prompts = [" and ".join(["Look:", *placeholders])]
    if draw(st.booleans()):
        prompts.append("Nothing to see.")
    options = draw(OPTIONS)
    return chosen, prompts, options, (draw(st.sampled_from(PROFILES)), draw(rarely(8)))


def outcome(call):
    """The layout of a plan or of tensors, or the error."""
    try:
        result = call()
    except Gemma4MMError as error:
        return type(error).__name__, str(error)
    rows = [np.asarray(result[name] if hasattr(result, "keys") else getattr(result, name)) for name in LAYOUT]
    return [(row.shape, row.tobytes()) for row in rows], result.segments, dict(result.token_counts)


LAYOUT = ("input_ids", "attention_mask", "mm_token_type_ids")


@settings(max_examples=2000)
@given(call=calls())
def test_a_plan_is_what_the_call_does(processors, media, call):
    chosen, prompts, options, which = call
    given = {kind: [media[kind][index % len(media[kind])] for index in indices] for kind, indices in chosen.items()}
    arguments = {kind: values for kind, values in given.items() if values}
    if "images" in arguments:
        arguments["images"] = [arguments["images"], *([] for _ in prompts[1:])]
    processor = processors[which]
    planned = outcome(lambda: processor.plan(text=prompts, **arguments, **options))
    assert outcome(lambda: processor(text=prompts, **arguments, **options)) == planned


@pytest.fixture
def sealed(monkeypatch):
    """No pixel, frame or sample can be decoded."""

    def broken(*_):
        raise AssertionError("something was decoded")

    monkeypatch.setattr(ImageSource, "decode", broken)
    monkeypatch.setattr(VideoSource, "frames", broken)
    monkeypatch.setattr(AudioSource, "blocks", broken)


IMAGE, VIDEO, AUDIO = "<|image|>", "<|video|>", "<|audio|>"
REFUSALS = {
    "placeholders": ({"text": IMAGE * 2, "images": [0]}, "placeholders"),
    "video placeholders": ({"text": VIDEO * 2, "videos": [0]}, "placeholders"),
    "budget": ({"text": IMAGE, "images": [0], "max_soft_tokens": 71}, "max_soft_tokens is 71"),
    "truncation": (
        {"text": IMAGE, "images": [0], "max_length": 9, "truncation": True, "padding": False},
        "would cut image 0",
    ),
    "truncation of a video": (
        {"text": VIDEO, "videos": [0], "num_frames": 2, "text_kwargs": {"max_length": 30, "truncation": True}},
        "would cut video 0",
    ),
    "unpadded rows": ({"text": ["a", f"b {AUDIO}"], "audio": [0], "padding": False}, "do not make one array"),
    "unpadded audio": (
        {"text": AUDIO * 2, "audio": [0, 1], "audio_kwargs": {"padding": False}},
        "do not make one array",
    ),
    "frames that are not there": ({"text": VIDEO, "videos": [0], "num_frames": 13}, "13 frames were asked for"),
    "a later file that is none": ({"text": IMAGE * 2, "images": [[0, 8]]}, "image 1 .* is not an image"),
    "a sound after pictures": ({"text": IMAGE + AUDIO, "images": [0], "audio": [8]}, "audio 0 .* is not audio"),
    "nothing at all": ({"text": IMAGE, "images": [3], "max_soft_tokens": 70}, None),
}  # fmt: skip


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("door", ["plan", "call", "encode_prompts"])
def test_a_refusal_comes_before_the_first_pixel(processors, media, name, door):
    arguments, message = REFUSALS[name]
    arguments = dict(arguments)
    for kind in ("images", "videos", "audio"):
        if kind in arguments:
            nested = arguments[kind][0] if isinstance(arguments[kind][0], list) else arguments[kind]
            values = [media[kind][index] for index in nested]
            arguments[kind] = [values] if isinstance(arguments[kind][0], list) else values
    processor = processors["5.24", False]
    doors = {"plan": processor.plan, "call": processor, "encode_prompts": processor.encode_prompts}
    if message is None:  # nothing to refuse: then the seal is what stops the call
        if door == "plan":
            doors[door](**arguments)
        else:
            with pytest.raises(AssertionError, match="decoded"):
                doors[door](**arguments)
        return
    with pytest.raises(Gemma4MMError, match=message):
        doors[door](**arguments)


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("door", ["plan", "call"])
def test_clips_that_do_not_stack_are_refused_before_the_first_pixel(processors, media, door):
    processor = processors["5.18", False]
    call = processor.plan if door == "plan" else processor
    with pytest.raises(InputError, match="cannot be stacked"):
        call(text=VIDEO * 2, videos=[media["videos"][0], media["videos"][3]], do_sample_frames=False)


@pytest.mark.usefixtures("sealed")
def test_an_array_of_the_caller_s_that_does_not_fit_is_refused_before_the_first_pixel(processors, media):
    with pytest.raises(InputError, match="input_features"):
        processors["5.24", False](
            text=IMAGE + AUDIO,
            images=media["images"][:1],
            audio=media["audio"][:1],
            out={"input_features": np.zeros((1, 1, 640), np.float32)},
        )


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("images", ImageSize(height_px=30, width_px=40)),
        ("videos", VideoSize(total_frames=9, fps=24.0, height_px=30, width_px=40)),
        ("audio", AudioLength(n_samples=700)),
    ],
)
def test_a_size_serves_plans_only(processors, kind, size):
    processor = processors["5.24", False]
    token = {"images": IMAGE, "videos": VIDEO, "audio": AUDIO}[kind]
    arguments = {"text": token, kind: [size]} | ({"num_frames": 3} if kind == "videos" else {})
    assert processor.plan(**arguments).n_tokens[0] > 2
    with pytest.raises(InputError, match="is a size, which serves plans only"):
        processor(**arguments)


def test_a_file_that_changes_its_size_after_the_layout_is_an_error(processors, tmp_path, monkeypatch):
    path = tmp_path / "a.bmp"
    path.write_bytes(image_bytes(photo(), "BMP"))
    decode = ImageSource.decode

    def changed(source):
        path.write_bytes(image_bytes(photo(height_px=20, width_px=30), "BMP"))
        return decode(source)

    monkeypatch.setattr(ImageSource, "decode", changed)
    with pytest.raises(Gemma4MMError, match="was 83×61 px by its header and is 30×20 px decoded"):
        processors["5.24", False](images=path)


def bits(inputs):
    """All values, by name."""
    return {key: value.tobytes() for key, value in inputs.items()}


def test_the_typed_door_and_hugging_face_s_are_one(processors, media):
    processor = processors["5.24", False]
    turn = {"role": "user", "content": [{"type": "image", "image": media["images"][0]}, {"type": "text", "text": "?"}]}
    ours = processor.encode(
        [turn], add_generation_prompt=True, template_variables={"enable_thinking": True}, max_soft_tokens=70
    )
    theirs = processor.apply_chat_template(
        [turn],
        add_generation_prompt=True,
        enable_thinking=True,
        tokenize=True,
        return_dict=True,
        processor_kwargs={"max_soft_tokens": 70},
    )
    assert {key: value.tobytes() for key, value in ours.items()} == {
        key: value.tobytes() for key, value in theirs.items()
    }
    one = processor.encode_prompts(IMAGE, images=media["images"][0], max_soft_tokens=70)
    other = processor(text=IMAGE, images=media["images"][0], max_soft_tokens=70)
    assert {key: value.tobytes() for key, value in one.items()} == {
        key: value.tobytes() for key, value in other.items()
    }
