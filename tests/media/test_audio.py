"""Audio to samples: equal to the reference's soundfile loader and to librosa, bit for bit, and safe on bad files."""

import base64
import io
import math
import os
import subprocess
import sys
import threading
import warnings
from contextlib import suppress

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma4_mm.errors import Gemma4MMError, InputError, LimitError, MediaError
from gemma4_mm.limits import Limits
from gemma4_mm.media import audio
from gemma4_mm.media.audio import open_audio
from gemma4_mm.media.quiet import ignore_decoder_notes
from tests.media.files import sound, wav_bytes, write_sound, write_sound_only_mp4
from tests.media.loading import audio_samples, load_audio

RATES_HZ = [8_000, 16_000, 22_050, 44_100, 48_000]
FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_32"),
    ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"),
    ("WAV", "PCM_U8"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("AIFF", "PCM_16"),
    ("CAF", "PCM_16"),
    ("AU", "PCM_16"),
]


def same_bits(ours, theirs):
    return (
        ours.dtype == theirs.dtype == np.float32 and ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes()
    )


@pytest.fixture(scope="module")
def check_against_the_references():
    from transformers.audio_utils import load_audio as reference

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # librosa's audioread imports aifc, at the first load
        import audioread
        import librosa

        audioread.available_backends()
        librosa_load = librosa.load

    def check(path):
        ours = load_audio(path)
        assert same_bits(ours, reference(str(path), sampling_rate=16_000, backend="soundfile"))
        assert same_bits(ours, librosa_load(path, sr=16_000)[0])
        assert audio_samples(path) == len(ours)
        assert same_bits(load_audio(path.read_bytes()), ours)

    return check


@pytest.mark.parity
@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("channels", range(1, 7))
def test_every_rate_and_channel_count_equals_the_references(check_against_the_references, tmp_path, rate_hz, channels):
    path = write_sound(tmp_path / "a.wav", rate_hz=rate_hz, n_samples=rate_hz + 1234, channels=channels)
    check_against_the_references(path)


@pytest.mark.parity
@pytest.mark.parametrize(("form", "subtype"), FORMATS)
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_every_format_equals_the_references(check_against_the_references, tmp_path, form, subtype, rate_hz):
    path = tmp_path / f"a.{form.lower()}"
    check_against_the_references(
        write_sound(path, rate_hz=rate_hz, n_samples=50_001, channels=2, form=form, subtype=subtype)
    )


@pytest.mark.parity
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_mp3_equals_the_references(check_against_the_references, tmp_path, rate_hz):
    path = tmp_path / "a.mp3"
    check_against_the_references(
        write_sound(path, rate_hz=rate_hz, n_samples=50_001, channels=2, form="MP3", subtype="MPEG_LAYER_III")
    )


@pytest.mark.parity
@pytest.mark.parametrize("block", [700, 20_000])
@pytest.mark.parametrize(
    ("form", "subtype"), [*FORMATS, ("MP3", "MPEG_LAYER_III"), ("OGG", "OPUS"), ("FLAC", "PCM_S8")]
)
def test_every_format_is_the_same_in_blocks(check_against_the_references, monkeypatch, tmp_path, form, subtype, block):
    """soundfile seeks after each read, and an MP3 decoder that has sought gives other samples."""
    path = tmp_path / f"a.{form.lower()}"
    write_sound(path, rate_hz=48_000, n_samples=50_001, channels=2, form=form, subtype=subtype)
    monkeypatch.setattr(audio, "_BLOCK_SAMPLES", block)
    check_against_the_references(path)


@pytest.mark.parity
@settings(max_examples=60)
@given(st.integers(0, 3000), st.sampled_from([*RATES_HZ, 11_025, 96_000]), st.integers(1, 9), st.integers(1, 700))
def test_odd_lengths_and_odd_blocks_equal_the_reference(n_samples, rate_hz, channels, block):
    from transformers.audio_utils import load_audio as reference

    data = io.BytesIO()
    soundfile.write(data, sound(n_samples=n_samples, channels=channels), rate_hz, format="WAV", subtype="FLOAT")
    uri = "data:audio/wav;base64," + base64.b64encode(data.getvalue()).decode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "_BLOCK_SAMPLES", block)
        ours = load_audio(data)
    assert same_bits(ours, reference(uri, sampling_rate=16_000, backend="soundfile"))
    assert audio_samples(uri) == len(ours) == math.ceil(n_samples * 16_000 / rate_hz)


@pytest.mark.parity
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int16, np.uint8, np.int64])
def test_arrays_are_what_the_reference_makes_of_them(dtype):
    from transformers.models.gemma4_unified.feature_extraction_gemma4_unified import Gemma4UnifiedAudioFeatureExtractor

    samples = (sound(n_samples=1280)[:, 0] * 100).astype(dtype)
    expected = Gemma4UnifiedAudioFeatureExtractor()([samples], return_tensors="np")["input_features"].reshape(-1)
    assert same_bits(load_audio(samples, integer_samples="cast"), expected)


def test_lists_of_numbers_and_amplitudes_beyond_one_are_samples():
    assert load_audio([0.5, -2, 1e-40]).tolist() == [0.5, -2.0, float(np.float32(1e-40))]
    assert load_audio((0.25,)).dtype == np.float32
    assert load_audio([]).shape == (0,)
    assert audio_samples(np.zeros(641)) == 641


def test_a_float32_array_is_not_copied():
    samples = np.zeros(10, np.float32)
    (block,) = open_audio(samples).blocks()
    assert np.shares_memory(block, samples)


@pytest.mark.parametrize(
    ("values", "dtype", "scaled"),
    [
        ([-32_768, 0, 32_767], np.int16, [-1.0, 0.0, 32_767 / 32_768]),
        ([-128, 64], np.int8, [-1.0, 0.5]),
        ([0, 128, 192], np.uint8, [-1.0, 0.0, 0.5]),
        ([-(2**31), 2**30], np.int32, [-1.0, 0.5]),
    ],
)
def test_integers_are_scaled_by_their_full_scale_on_request(values, dtype, scaled):
    samples = load_audio(np.array(values, dtype), integer_samples="scale")
    assert samples.tolist() == scaled
    assert samples.dtype == np.float32


def test_scaling_agrees_with_the_file_of_the_same_integers():
    integers = (sound(n_samples=4000)[:, 0] * 32_767).astype(np.int16)
    assert same_bits(load_audio(integers, integer_samples="scale"), load_audio(wav_bytes(data=integers.tobytes())))


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        (np.zeros(4, np.int16), {}, r"audio 1 is an array of int16; .*array / 32768.*integer_samples='scale'"),
        ([1, 2], {}, "audio 1 is an array of int64"),
        ([1, 2], {"integer_samples": "scale"}, "int64, whose full scale is unknown"),
        (
            np.zeros((2, 9)),
            {},
            r"audio 1 is an array of shape \(2, 9\); .*mono samples at 16000 Hz; average the channels",
        ),
        (np.zeros(()), {}, r"shape \(\)"),
        ([[0.1], [0.2, 0.3]], {}, "unequal lengths"),
        (np.array([0.0, np.nan]), {}, "audio 1 holds NaN, infinite or too large values, first at sample 1"),
        (np.array([np.inf]), {}, "first at sample 0; replace them"),
        (np.array([0.0, 1e300]), {}, "too large values, first at sample 1"),
        (np.zeros(4, bool), {}, "array of bool; it must be floating point"),
        (np.zeros(4, complex), {}, "array of complex128"),
        (["a", "b"], {}, "must be floating point"),
        (None, {}, "audio 1 is NoneType; give a path"),
        (3.5, {}, "audio 1 is float; give a path"),
    ],
)
def test_what_is_no_row_of_samples_is_an_error(value, options, message):
    with pytest.raises(InputError, match=message):
        load_audio(value, label="audio 1", **options)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"audio 1 \(bytes\) is empty \(0 bytes\)"),
        (b"this is a text, not a sound", r"audio 1 \(bytes\) is not audio that can be read \(Format not recognised\)"),
        (wav_bytes()[:20], "is not audio that can be read"),
        (wav_bytes(data_size=5000), "claims 5000 bytes, the file holds 1600"),
        (wav_bytes(riff_size=10**9), "claims 1000000000 bytes, the file holds 1636; .*write it again"),
        (wav_bytes()[:-800], "cut off"),
        (wav_bytes(channels=0), "is not audio that can be read"),
        (wav_bytes(channels=3000), "is not audio that can be read"),
        (wav_bytes(rate_hz=0), "is not audio that can be read"),
    ],
)
def test_bad_files_are_errors(capfd, data, message):
    for call in (load_audio, audio_samples):
        with pytest.raises(MediaError, match=message):
            call(data, label="audio 1")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parity
@pytest.mark.parametrize("sizes", [{"data_size": 0xFFFFFFFF}, {"data_size": 0x7FFFFFFF}, {"data_size": 0x7FFFFFDB}])
@pytest.mark.parametrize("riff_size", [0xFFFFFFFF, 0x7FFFFFFF, None])
def test_wav_from_a_pipe_is_read_to_its_end(tmp_path, sizes, riff_size):
    """Programs that cannot go back write a size that cannot be meant."""
    from transformers.audio_utils import load_audio as reference

    path = tmp_path / "pipe.wav"
    path.write_bytes(wav_bytes(**sizes, riff_size=riff_size))
    expected = reference(str(path), sampling_rate=16_000, backend="soundfile")
    assert load_audio(path).tobytes() == expected.tobytes()
    assert load_audio(path.read_bytes()).tobytes() == expected.tobytes()
    assert audio_samples(path) == len(expected) == 800


def without_length(mp3):
    """An MP3 whose first frame, which counts the others, is taken away, as streams and cutters leave it."""
    from gemma4_mm.media.audio import _tells_length  # the rule under test agrees that it has one, and then none
    from gemma4_mm.media.source import Source

    assert _tells_length(Source(name="whole", data=mp3))
    place = mp3.index(mp3[:2], 4)
    assert not _tells_length(Source(name="cut", data=mp3[place:]))
    return mp3[place:]


@pytest.mark.parity
@pytest.mark.parametrize("rate_hz", [44_100, 16_000, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("tag", [b"", b"ID3\x04\x00\x00\x00\x00\x02\x01" + bytes(257)])
def test_an_mp3_without_its_length_is_counted(tmp_path, rate_hz, channels, tag):
    """libsndfile guesses how long it is; the reference reads what is there."""
    from transformers.audio_utils import load_audio as reference

    whole = write_sound(
        tmp_path / "a", rate_hz=rate_hz, n_samples=110_000, channels=channels, form="MP3", subtype="MPEG_LAYER_III"
    ).read_bytes()
    path = tmp_path / "stream.mp3"
    path.write_bytes(tag + without_length(whole))
    expected = reference(str(path), sampling_rate=16_000, backend="soundfile")
    assert audio_samples(path) == audio_samples(path.read_bytes()) == len(expected)
    assert load_audio(path).tobytes() == load_audio(path.read_bytes()).tobytes() == expected.tobytes()


@pytest.mark.parametrize("form", ["WAV", "AIFF", "FLAC", "AU", "W64", "RF64", "MP3"])
def test_files_that_are_cut_off_are_errors(capfd, tmp_path, form):
    subtype = "MPEG_LAYER_III" if form == "MP3" else "PCM_16"
    path = write_sound(tmp_path / "a", rate_hz=48_000, n_samples=100_000, form=form, subtype=subtype)
    whole = path.read_bytes()
    assert len(load_audio(whole)) == 33_334
    with pytest.raises(MediaError, match=r"cut off|lost sync"):
        load_audio(whole[: len(whole) * 2 // 3])
    assert capfd.readouterr() == ("", "")


def test_a_wav_without_samples_is_empty_and_small_slips_of_a_header_do_no_harm():
    assert load_audio(wav_bytes(data=b"")).shape == (0,)
    assert load_audio(wav_bytes(data=b"", rate_hz=44_100)).shape == (0,)
    assert len(load_audio(wav_bytes(riff_size=0))) == 800
    assert len(load_audio(wav_bytes() + b"trailing bytes")) == 800
    odd = wav_bytes(data=bytes(1601), riff_size=36 + 1602)  # the padding byte was announced and not written
    assert len(load_audio(odd)) == 800


def test_a_video_is_not_audio(capfd, tmp_path):
    with pytest.raises(MediaError, match="convert it with ffmpeg"):
        load_audio(write_sound_only_mp4(tmp_path / "a.mp4"))
    assert capfd.readouterr() == ("", "")


def test_raw_samples_have_no_header(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(100))
    with pytest.raises(MediaError, match="give them as an array"):
        load_audio(tmp_path / "a.raw")


@pytest.mark.parametrize("samples", [[0.0, np.nan, 0.5], [[np.inf, -np.inf]], [[3e38, 3e38]]])
def test_nan_in_a_file_is_an_error(tmp_path, samples):
    soundfile.write(tmp_path / "a.wav", np.array(samples), 16_000, subtype="FLOAT")
    with pytest.raises(MediaError, match="holds NaN or infinite samples"):
        load_audio(tmp_path / "a.wav")


def test_the_duration_is_bounded_before_decoding(monkeypatch, tmp_path):
    path = write_sound(tmp_path / "a.wav", rate_hz=8_000, n_samples=16_000)
    for value in (path, np.zeros(32_000)):
        assert len(load_audio(value, limits=Limits(max_seconds=2.0))) == 32_000
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("decoded"))
    for value in (path, np.zeros(32_000)):
        for call in (load_audio, audio_samples):
            with pytest.raises(LimitError, match=r"lasts 2\.0 s; the limit is 1\.9 s; .*Limits\.max_seconds"):
                call(value, limits=Limits(max_seconds=1.9))
    assert audio_samples(path) == 32_000


def test_a_slow_rate_counts_by_its_duration():
    with pytest.raises(LimitError, match=r"lasts 800\.0 s"):
        load_audio(wav_bytes(rate_hz=1), limits=Limits(max_seconds=100.0))


@pytest.mark.parametrize(
    ("form", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]
)
def test_damaged_files_raise_only_our_errors_and_write_nothing(capfd, tmp_path, form, subtype):
    whole = write_sound(tmp_path / "a", rate_hz=24_000, n_samples=6_000, form=form, subtype=subtype).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(whole[: random.integers(1, len(whole) + 1)])
        for place in random.integers(0, len(damaged), 6):
            damaged[place] = random.integers(0, 256)
        for call in (load_audio, audio_samples):
            with suppress(Gemma4MMError):
                call(bytes(damaged), limits=Limits(max_seconds=60.0))
    assert capfd.readouterr() == ("", "")


def test_what_others_write_to_stderr_meanwhile_is_passed_on(capfd):
    barrier = threading.Barrier(2)

    def decode(own):
        with ignore_decoder_notes():
            barrier.wait()
            os.write(2, own)

    threads = [
        threading.Thread(target=decode, args=(own,)) for own in (b"a log line\n", b"Note: Trying to resync...\n")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "a log line\nafter\n"


def test_without_soundfile_the_install_command_is_named():
    code = (
        "import sys; sys.modules['soundfile'] = None\n"
        "from gemma4_mm.errors import MissingDependencyError\n"
        "from gemma4_mm.media.audio import open_audio\n"
        "try:\n    open_audio(b'RIFF')\nexcept MissingDependencyError as error:\n    print(error)\n"
        "print(next(open_audio([0.5]).blocks()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'gemma4-mm[audio]'" in done.stdout
    assert done.stdout.endswith("[0.5]\n")
