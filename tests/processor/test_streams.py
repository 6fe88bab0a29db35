"""Streams give what a call gives, in every bit, and hold one frame or block at a time."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gemma4_mm import Execution, InputError, LimitError, Limits, MediaError, Processor
from gemma4_mm.media.video import open_video
from gemma4_mm.testing.strategies import clips, waveforms
from tests.media.files import image_bytes, scene, write_sound, write_video


@pytest.fixture(scope="module")
def processors(assets):
    return {
        threads: Processor.from_pretrained(assets.tokenizer.parent, execution=Execution(threads=threads))
        for threads in (1, 3)
    }


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    return [
        write_video(folder / "a.mp4", n_frames=70, gop=10),
        write_video(folder / "b.mkv", n_frames=40, codec="libx265", codec_options={"x265-params": "log-level=none"}),
        write_video(folder / "c.mp4", n_frames=33, rotation=90),
    ]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    return [
        write_sound(folder / "a.wav", rate_hz=44_100, n_samples=70_001, channels=2),
        write_sound(folder / "b.flac", rate_hz=8_000, n_samples=9_999, form="FLAC"),
        write_sound(folder / "c.mp3", rate_hz=22_050, n_samples=90_000, form="MP3", subtype="MPEG_LAYER_III"),
        write_sound(folder / "d.wav", rate_hz=16_000, n_samples=1280),
    ]


def same_bits(ours, theirs):
    return ours.dtype == theirs.dtype and ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes()


@settings(max_examples=40)
@given(st.data())
def test_a_stream_of_a_video_is_the_call_s_tensor(processors, films, data):
    n_frames = data.draw(st.integers(1, 9))
    images = [Image.fromarray(scene(height_px=40, width_px=50, shift=index)) for index in range(n_frames)]
    video = data.draw(st.one_of(clips(min_frames=n_frames), st.sampled_from([*films, images])))
    arguments = {
        "max_soft_tokens": data.draw(st.sampled_from([70, 140])),
        "num_frames": n_frames,
        "dtype": data.draw(st.sampled_from(["float32", "float16"])),
    }
    inputs = processors[1](text="<|video|>", videos=[video], **arguments)
    stream = processors[data.draw(st.sampled_from([1, 3]))].stream_video(video, **arguments)
    frames = list(stream)
    assert len(stream) == len(frames) == n_frames
    assert same_bits(np.stack([frame.pixel_values for frame in frames]), inputs["pixel_values_videos"])
    assert same_bits(np.stack([frame.position_ids for frame in frames]), inputs["video_position_ids"])
    assert same_bits(np.stack([frame.patches for frame in frames]), inputs.video_patches(0))
    layout = processors[1].plan(text="<|video|>", videos=[video], **{**arguments, "dtype": None})
    (plan,) = layout.media.videos
    assert stream.plan == plan
    assert tuple(frame.index for frame in frames) == plan.frame_indices
    assert tuple(frame.timestamp_s for frame in frames) == plan.timestamps_s


@settings(max_examples=40)
@given(st.data())
def test_a_stream_of_an_audio_is_the_call_s_tensor(processors, sounds, data):
    audio = data.draw(st.one_of(waveforms(), st.sampled_from(sounds)))
    dtype = data.draw(st.sampled_from([None, "float16"]))
    frames_per_block = data.draw(st.integers(1, 80))
    inputs = processors[1](text="<|audio|>", audio=[audio], dtype=dtype)
    stream = processors[1].stream_audio(audio, frames_per_block=frames_per_block, dtype=dtype)
    blocks = list(stream)
    assert same_bits(np.concatenate(blocks), inputs.audio_frames(0))
    assert stream.n_tokens == inputs.token_counts["audio"][0]
    assert len(stream) == len(blocks)
    assert all(len(block) == frames_per_block for block in blocks[:-1])
    assert same_bits(np.concatenate(list(stream)), np.concatenate(blocks))  # again, from the start


def test_several_videos_and_audios_share_one_array(processors, films, sounds):
    """What each of them has in a call of its own stands in its place."""
    processor = processors[3]
    together = processor(text="<|video|>" * 3 + "<|audio|>" * 4, videos=films, audio=sounds, num_frames=5)
    for item, film in enumerate(films):
        alone = processor(text="<|video|>", videos=[film], num_frames=5)
        assert same_bits(together.video_patches(item), alone.video_patches(0))
    for item, sound in enumerate(sounds):
        alone = processor(text="<|audio|>", audio=[sound])
        assert same_bits(together.audio_frames(item), alone.audio_frames(0))
    assert not together["input_features"][~together["input_features_mask"]].any()


def test_the_caller_s_arrays_are_filled_to_the_end(processors, films, sounds):
    """Their old content shows nowhere, padding included."""
    processor = processors[1]
    arguments = {"text": "<|video|><|audio|><|audio|>", "videos": films[:1], "audio": sounds[:2], "num_frames": 4}
    expected = processor(**arguments)
    names = ("pixel_values_videos", "video_position_ids", "input_features")
    out = {name: np.full_like(expected[name], 7) for name in names}
    inputs = processor(**arguments, out=out)
    for name in names:
        assert np.shares_memory(inputs[name], out[name])
        assert same_bits(out[name], expected[name])


def test_an_abandoned_stream_can_be_begun_again(processors, films, sounds):
    for stream in (processors[1].stream_video(films[0], num_frames=8), processors[1].stream_audio(sounds[0])):
        next(iter(stream))
        assert sum(1 for _ in stream) == len(stream)


@pytest.mark.parametrize("threads", [1, 3])
def test_frames_are_let_go(processors, monkeypatch, films, threads):
    """No more than one decoded frame for each thread is alive when the next is decoded, in a stream and in a call."""
    given_out, most = [], 0

    class Pixels(np.ndarray):
        """An array of its own, whose end can be seen."""

    def counting(value, **options):
        source = open_video(value, **options)
        decode = source._decode

        def frames():
            nonlocal most
            for frame in decode():
                gc.collect()
                most = max(most, sum(reference() is not None for reference in given_out))
                counted = frame.view(Pixels)
                given_out.append(weakref.ref(counted))
                del frame
                yield counted
                del counted

        object.__setattr__(source, "_decode", frames)
        return source

    monkeypatch.setattr("gemma4_mm.encode.videos.open_video", counting)
    gc.collect()
    gc.freeze()  # what other tests have left need not be searched at every frame
    for _frame in processors[threads].stream_video(films[0], num_frames=24):
        pass
    processors[threads](text="<|video|>", videos=[films[0]], num_frames=24)
    gc.unfreeze()
    assert 0 < most <= threads
    assert len(given_out) == 48


def test_errors_of_streams_say_what_and_where(processors, films, sounds, tmp_path):
    processor = processors[1]
    with pytest.raises(InputError, match="frames_per_block is 0; it must be a whole number of at least 1"):
        processor.stream_audio(sounds[0], frames_per_block=0)
    with pytest.raises(InputError, match="unknown argument 'fps_'"):
        processor.stream_video(films[0], fps_=2)
    with pytest.raises(InputError, match="dtype is 'int8'"):
        processor.stream_video(films[0], num_frames=2, dtype="int8")
    with pytest.raises(InputError, match=r"1 videos but 2 video_metadata"):
        processor.stream_video(films[0], video_metadata=[{}, {}])
    with pytest.raises(MediaError, match="no such file"):
        processor.stream_audio(tmp_path / "none.wav")
    strict = Processor(processor._assets, limits=Limits(max_frames=3, max_seconds=2.0))
    with pytest.raises(LimitError, match=r"raise Limits\.max_frames"):
        strict.stream_video(films[2], num_frames=4)
    with pytest.raises(LimitError, match=r"raise Limits\.max_seconds"):
        strict.stream_audio(sounds[2])


def test_a_damaged_file_is_an_error_when_its_damage_is_reached(processors, tmp_path):
    whole = write_video(tmp_path / "fast.mp4", n_frames=60, options={"movflags": "faststart"}).read_bytes()
    stream = processors[1].stream_video(whole[: len(whole) * 2 // 3], num_frames=20)
    frames = iter(stream)
    next(frames)
    with pytest.raises(MediaError, match="cut off"):
        list(frames)
    flac = write_sound(tmp_path / "a.flac", rate_hz=16_000, n_samples=300_000, form="FLAC").read_bytes()
    blocks = iter(processors[1].stream_audio(flac[: len(flac) * 2 // 3], frames_per_block=10))
    next(blocks)
    with pytest.raises(MediaError, match=r"cut off|lost sync"):
        list(blocks)


def test_image_files_are_decoded_one_at_a_time(processors):
    files = [image_bytes(Image.fromarray(scene(height_px=60, width_px=80, shift=index)), "PNG") for index in range(4)]
    stream = processors[1].stream_video([*files[:3], files[3][: len(files[3]) // 2]], do_sample_frames=False)
    frames = iter(stream)
    assert [next(frames).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(MediaError, match=r"video, frame 3 \(bytes\)"):
        next(frames)
