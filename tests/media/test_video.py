"""Video files to frames and times, against the reference's PyAV reader."""

import base64
import subprocess
import sys
import tracemalloc
from contextlib import suppress

import av
import numpy as np
import pytest

from gemma4_mm.errors import Gemma4MMError, InputError, LimitError, MediaError
from gemma4_mm.limits import Limits
from gemma4_mm.media import container
from tests.media.files import (
    image_bytes,
    photo,
    scene,
    trim_by_edit_list,
    write_sound_only_mp4,
    write_video,
)
from tests.media.loading import load_video, probe_video

TIMES_MS = [0, 40, 100, 110, 300, 700, 701, 900, 1500, 62_000]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def mp4(folder):
    return write_video(folder / "plain.mp4", n_frames=60)


def decode_slowly(path):
    """Every frame of a file, one after the other."""
    with av.open(str(path)) as opened:
        return [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]


def clip(n_frames, *shape):
    return np.random.default_rng(0).integers(0, 256, (n_frames, *shape), np.uint8)


# Files


@pytest.mark.parity
@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mp4", "libx264"), ("mp4", "libx265"), ("mp4", "mpeg4"), ("mov", "libx264"), ("avi", "mpeg4"), ("mov", "mpeg4")],
)
@pytest.mark.parametrize("num_frames", [1, 8, 31, 60, None])
def test_files_equal_the_pyav_reader_of_the_reference(folder, suffix, codec, num_frames):
    from transformers.video_utils import default_sample_indices_fn, read_video_pyav

    path = folder / f"{codec}.{suffix}"
    if not path.exists():
        quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        pixels = {"height_px": 50, "width_px": 66}
        write_video(path, n_frames=60, fps=25, codec=codec, gop=10, codec_options=quiet, **pixels)
    expected, metadata = read_video_pyav(
        str(path), lambda metadata, **_: default_sample_indices_fn(metadata, num_frames=num_frames)
    )
    video = load_video(path, num_frames=num_frames, rotation="ignored")
    assert np.array_equal(np.stack(video.frames), expected)
    ours = video.metadata
    assert list(ours.frame_indices) == list(metadata.frames_indices)
    assert list(ours.timestamps_s) == metadata.timestamps
    assert (ours.total_frames, ours.fps, ours.duration_s) == (
        metadata.total_num_frames,
        metadata.fps,
        metadata.duration,
    )
    assert (ours.height_px, ours.width_px) == (metadata.height, metadata.width)
    assert not ours.fps_assumed
    assert probe_video(path, num_frames=num_frames, rotation="ignored") == ours


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("mkv", "libx264", {}),
        ("webm", "libvpx", {}),
        ("webm", "libvpx-vp9", {}),
        ("ts", "libx264", {}),
        ("mpg", "mpeg2video", {}),
        ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
    ],
)
def test_files_without_a_frame_count_are_counted_by_their_packets(folder, suffix, codec, options):
    path = write_video(folder / f"count-{codec}.{suffix}", n_frames=41, fps=25, codec=codec, options=options)
    frames = decode_slowly(path)
    assert len(frames) == 41
    video = load_video(path, num_frames=7)
    assert video.metadata.total_frames == 41
    assert video.metadata.frame_indices == (0, 5, 11, 17, 23, 29, 35)
    assert np.array_equal(np.stack(video.frames), np.stack([frames[index] for index in video.metadata.frame_indices]))


def test_frames_hidden_by_an_edit_list_do_not_count(folder, mp4):
    path = trim_by_edit_list(folder / "trimmed.mp4", mp4, n_frames=5)
    video = load_video(path)
    assert video.metadata.total_frames == len(video.frames) == 55
    assert np.array_equal(np.stack(video.frames), np.stack(decode_slowly(mp4)[5:]))


@pytest.mark.parametrize("origin", ["path", "text", "bytes", "file object", "data URI"])
def test_every_origin_gives_the_same_frames(mp4, origin):
    data = mp4.read_bytes()
    with mp4.open("rb") as file:
        value = {
            "path": mp4,
            "text": str(mp4),
            "bytes": data,
            "file object": file,
            "data URI": f"data:video/mp4;base64,{base64.b64encode(data).decode()}",
        }[origin]
        video = load_video(value, num_frames=3)
    assert np.array_equal(np.stack(video.frames), np.stack([decode_slowly(mp4)[index] for index in (0, 20, 40)]))


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, 3), (180, 2), (270, 3), (0, 0)])
def test_frames_are_turned_as_the_file_says(folder, rotation, turns):
    path = write_video(folder / f"turned{rotation}.mp4", n_frames=4, rotation=rotation)
    stored = decode_slowly(path)
    video = load_video(path)
    assert all(np.array_equal(ours, np.rot90(raw, turns)) for ours, raw in zip(video.frames, stored, strict=True))
    assert (video.metadata.height_px, video.metadata.width_px) == video.frames[0].shape[:2]
    assert probe_video(path) == video.metadata
    assert np.array_equal(np.stack(load_video(path, rotation="ignored").frames), np.stack(stored))


def test_a_portrait_phone_video_stands_upright(folder):
    """A phone held upright stores frames lying on their side, and a matrix that turns them clockwise."""
    path = write_video(folder / "phone.mp4", n_frames=1, height_px=48, width_px=96, rotation=-90)
    (frame,) = load_video(path).frames
    (stored,) = decode_slowly(path)
    assert frame.shape == (96, 48, 3)
    assert np.array_equal(frame[0], stored[::-1, 0])  # the left edge, read upwards, is the top


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_variable_frame_rate_has_its_real_times_on_request(folder, suffix):
    path = write_video(folder / f"vfr.{suffix}", n_frames=10, times_ms=TIMES_MS)
    video = load_video(path, num_frames=5, timestamps="presentation")
    assert video.metadata.frame_indices == (0, 2, 4, 6, 8)
    assert video.metadata.timestamps_s == pytest.approx([0.0, 0.1, 0.3, 0.701, 1.5])  # the container's clock rounds
    by_index = load_video(path, num_frames=5).metadata
    assert by_index.timestamps_s == tuple(index / by_index.fps for index in by_index.frame_indices)
    assert probe_video(path, num_frames=5, timestamps="presentation") == video.metadata


def test_only_the_chosen_frames_are_kept(folder):
    path = write_video(folder / "large.mp4", n_frames=60, height_px=240, width_px=320, codec="mpeg4")
    load_video(path, num_frames=2)  # imports
    tracemalloc.start()
    video = load_video(path, num_frames=2)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 5 * video.frames[0].nbytes


def test_probing_decodes_one_frame(monkeypatch, mp4):
    monkeypatch.setattr(container, "decode_frames", lambda *_, **__: pytest.fail("decoded"))
    assert probe_video(mp4, num_frames=32).total_frames == 60


def test_the_cover_of_a_song_is_not_a_video(folder):
    path = folder / "cover.mp4"
    with av.open(str(path), "w") as song:
        sound = song.add_stream("aac", rate=16_000, layout="mono")
        cover = song.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        picture = av.VideoFrame.from_ndarray(scene(height_px=32, width_px=32), format="rgb24")
        song.mux(cover.encode(picture) + cover.encode() + sound.encode(frame) + sound.encode())
    with pytest.raises(MediaError, match=r"has no video stream \(it holds: audio, video\)"):
        load_video(path)


@pytest.mark.parametrize("call", [load_video, probe_video])
def test_bad_files_are_errors(capfd, folder, call):
    bad = {
        r"has no video stream \(it holds: audio\); give a file with a picture": write_sound_only_mp4(folder / "a.mp4"),
        r"video 1 \(bytes\) is empty": b"",
        r"video 1 \(bytes\) is not a video that can be read \(Invalid data.*give MP4": b"this is a text" * 9,
        "is not a video that can be read": image_bytes(photo(), "JPEG"),
        "no such file": "missing.mp4",
        "video 1 is int; give a path": 12,
    }
    for message, value in bad.items():
        with pytest.raises((MediaError, InputError), match=message):
            call(value, label="video 1")
    assert capfd.readouterr() == ("", "")


def test_a_playlist_cannot_make_other_files_be_opened(capfd, folder, mp4):
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{mp4}\n#EXT-X-ENDLIST\n".encode()
    concat = f"ffconcat version 1.0\nfile '{mp4}'\n".encode()
    for text in (playlist, concat):
        path = folder / "list.m3u8"
        path.write_bytes(text)
        for value in (text, path):
            with pytest.raises(MediaError, match="not a video that can be read"):
                load_video(value)
    assert capfd.readouterr() == ("", "")


def test_a_file_name_is_never_a_protocol(folder, mp4, monkeypatch):
    monkeypatch.chdir(folder)
    odd = folder / "concat:a|b.mp4"
    odd.write_bytes(mp4.read_bytes())
    assert load_video(odd.name, num_frames=1).metadata.total_frames == 60


@pytest.mark.parametrize("title", [b"XXXXXXXX", b"caf\xe9 \xff\xfe."])
def test_a_title_that_is_not_utf8_keeps_no_file_from_being_read(folder, title):
    path = write_video(folder / "title.mkv", n_frames=3, metadata={"title": "XXXXXXXX"})
    path.write_bytes(path.read_bytes().replace(b"XXXXXXXX", title))
    assert len(load_video(path, do_sample_frames=False).frames) == 3


def test_a_file_that_is_cut_off_is_an_error(capfd, folder):
    path = write_video(folder / "fast.mp4", n_frames=60, options={"movflags": "faststart"})
    cut = path.read_bytes()[: path.stat().st_size * 2 // 3]
    with pytest.raises(MediaError, match="cut off"):
        load_video(cut, num_frames=32)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4"), ("ts", "mpeg2video")]
)
def test_damaged_files_raise_only_our_errors_and_write_nothing(capfd, folder, suffix, codec):
    whole = write_video(folder / f"small.{suffix}", n_frames=6, codec=codec).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(80):
        damaged = bytearray(whole[: random.integers(1, len(whole) + 1)])
        for place in random.integers(0, len(damaged), 8):
            damaged[place] = random.integers(0, 256)
        with suppress(Gemma4MMError):
            load_video(bytes(damaged), limits=Limits(max_pixels=1 << 20, max_frames=100, max_seconds=100.0))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(max_pixels=48 * 64 - 1), r"is 64×48 px .*raise Limits\.max_pixels"),
        (Limits(max_seconds=2.4), r"lasts 2\.5 s; the limit is 2\.4 s"),
        (Limits(max_frames=7), r"contributes 8 frames; the limit is 7; sample fewer with num_frames"),
        (Limits(max_bytes=100), r"the limit is 100; .*Limits\.max_bytes"),
    ],
)
def test_limits_hold_before_frames_are_decoded(monkeypatch, mp4, limits, message):
    monkeypatch.setattr(container, "decode_frames", lambda *_, **__: pytest.fail("decoded"))
    for call in (load_video, probe_video):
        with pytest.raises(LimitError, match=message):
            call(mp4, num_frames=8, limits=limits)


def test_limits_are_inclusive(mp4):
    limits = Limits(max_pixels=48 * 64, max_seconds=2.5, max_frames=8, max_bytes=mp4.stat().st_size)
    assert len(load_video(mp4, num_frames=8, limits=limits).frames) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 61}, r"plain\.mp4\): 61 frames were asked for, the video has 60.*do_sample_frames=False"),
        ({"num_frames": 4, "fps": 2.0}, "pass one of them"),
    ],
)
def test_frames_that_are_not_there_cannot_be_sampled(mp4, options, message):
    for call in (load_video, probe_video):
        with pytest.raises(InputError, match=message):
            call(mp4, **options)
    assert len(load_video(mp4, do_sample_frames=False, **options).frames) == 60


def test_sampling_by_rate(mp4):
    assert load_video(mp4, fps=4).metadata.frame_indices == (0, 6, 12, 18, 24, 30, 36, 42, 48, 54)


def test_without_pyav_the_install_command_is_named():
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from gemma4_mm.errors import MissingDependencyError\n"
        "from gemma4_mm.media.video import open_video\n"
        "try:\n    open_video(b'video')\nexcept MissingDependencyError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'gemma4-mm[video]'" in done.stdout
