"""Frames found from a key frame on are those of a decode from the start, in every bit, whatever key frames promise."""

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma4_mm.limits import Limits
from gemma4_mm.media import container
from gemma4_mm.media.container import decode_frames, read_header
from gemma4_mm.media.packets import Packets, plan_runs
from gemma4_mm.media.source import open_source
from tests.media.files import trim_by_edit_list, write_video

N_FRAMES = 120
GOP = 20
QUIET_X265 = {"x265-params": "log-level=none"}
TIMES_MS = np.cumsum(np.random.default_rng(0).integers(1, 90, N_FRAMES)).tolist()


@dataclass(frozen=True)
class Film:
    """How to write a file, and whether frames of it can be skipped."""

    suffix: str
    codec: str
    options: tuple = ()
    skips: bool = True
    gop: int = GOP
    times_ms: tuple | None = None
    hidden: int = 0
    pixel_format: str = "yuv420p"
    fragmented: bool = False

    def write(self, folder):
        path = folder / f"{abs(hash(self))}.{self.suffix}"
        if not path.exists():
            written = write_video(
                path.with_name(f"whole-{path.name}"),
                n_frames=N_FRAMES,
                codec=self.codec,
                pixel_format=self.pixel_format,
                codec_options=dict(self.options),
                gop=self.gop,
                times_ms=self.times_ms,
                options={"movflags": "frag_keyframe+empty_moov"} if self.fragmented else {},
            )
            if self.hidden:
                trim_by_edit_list(path, written, n_frames=self.hidden)
            else:
                written.rename(path)
        return path


FILMS = {
    "H.264 with B frames": Film("mp4", "libx264", (("bf", "3"),)),
    "H.264 with a pyramid of B frames": Film("mov", "libx264", (("x264-params", "bframes=8:b-pyramid=2:ref=5"),)),
    "H.264 in Matroska": Film("mkv", "libx264"),
    "H.264 in a transport stream": Film("ts", "libx264"),
    "H.264, fragmented": Film("mp4", "libx264", (("bf", "2"),), fragmented=True),
    "H.264, variable frame rate": Film("mp4", "libx264", times_ms=tuple(TIMES_MS)),
    "H.264, trimmed by an edit list": Film("mp4", "libx264", hidden=27),
    "H.264, open GOPs": Film("mp4", "libx264", (("x264-params", "open-gop=1:bframes=3"),), skips=False),
    "H.264, intra refresh": Film("mp4", "libx264", (("x264-params", "intra-refresh=1:bframes=0"),), skips=False),
    "H.264, one key frame": Film("mp4", "libx264", gop=500, skips=False),
    "HEVC, open GOPs": Film("mp4", "libx265", tuple(QUIET_X265.items())),
    "HEVC, closed GOPs with leading frames": Film(
        "mkv",
        "libx265",
        (("x265-params", "log-level=none:open-gop=0:radl=2:keyint=20:min-keyint=20:bframes=4:b-adapt=0"),),
    ),
    "HEVC, trimmed by an edit list": Film("mp4", "libx265", tuple(QUIET_X265.items()), hidden=27),
    "VP8": Film("webm", "libvpx", (("deadline", "realtime"),)),
    "VP9": Film("webm", "libvpx-vp9", (("deadline", "realtime"), ("cpu-used", "8"), ("auto-alt-ref", "0"))),
    "AV1": Film("mkv", "libsvtav1", (("preset", "10"),)),
    "MPEG-4 with B frames": Film("mp4", "mpeg4", (("bf", "2"),)),
    "MPEG-4 in AVI": Film("avi", "mpeg4"),
    "MPEG-2 with B frames": Film("mkv", "mpeg2video", (("bf", "2"), ("sc_threshold", "1000000000"))),
    "ProRes": Film("mov", "prores_ks", pixel_format="yuv422p10le"),
    "MJPEG": Film("avi", "mjpeg", pixel_format="yuvj420p"),
    "FFV1": Film("mkv", "ffv1", skips=False),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("films")


def decode_slowly(path):
    with av.open(str(path)) as opened:
        return [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]


def choose(path, frame_indices):
    source = open_source(path, label="video", limits=Limits())
    return list(decode_frames(source, frame_indices, header=read_header(source, limits=Limits())))


@dataclass
class Work:
    """What was decoded by runs: packets handed to the decoder, and chosen frames found so."""

    packets: int = 0
    frames: int = 0


@pytest.fixture
def work(monkeypatch):
    work = Work()
    decode_alone, decode_runs = container._decode_alone, container._decode_runs

    def counted_packets(decoder, packets):
        kept = list(packets)
        work.packets += len(kept)
        return decode_alone(decoder, kept)

    def counted_frames(*arguments, **options):
        for found in decode_runs(*arguments, **options):
            work.frames += 1
            yield found

    monkeypatch.setattr(container, "_decode_alone", counted_packets)
    monkeypatch.setattr(container, "_decode_runs", counted_frames)
    return work


@pytest.mark.parametrize("name", FILMS)
def test_chosen_frames_equal_a_decode_from_the_start(folder, work, name):
    film = FILMS[name]
    path = film.write(folder)
    frames = decode_slowly(path)
    header = read_header(open_source(path, label="video", limits=Limits()), limits=Limits())
    assert header.total_frames == len(frames) == N_FRAMES - film.hidden
    random = np.random.default_rng(0)
    choices = [[index] for index in range(0, len(frames), 7)]
    choices += [sorted(random.choice(len(frames), n, replace=False).tolist()) for n in (2, 3, 5, 8) for _ in range(3)]
    n_skipped = 0
    for choice in choices:
        work.packets = work.frames = 0
        found = choose(path, choice)
        assert len(found) == len(choice)
        assert all(np.array_equal(ours, frames[index]) for ours, index in zip(found, choice, strict=True)), choice
        if work.packets:
            assert work.frames == len(choice)  # and not after all by a decode from the start
            n_skipped += max(choice) + 1 - work.packets
    assert (n_skipped > 100) == film.skips


def test_a_file_that_begins_amid_a_group_is_decoded_from_its_start(folder, work):
    """Its first frames cannot be decoded, so that the decoder's count and that of the packets differ."""
    whole = FILMS["H.264 with B frames"].write(folder)
    path = folder / "amid.mkv"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in list(source.demux(source.streams.video[0]))[5:]:
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    frames = decode_slowly(path)
    assert len(frames) < N_FRAMES - 5
    for choice in ([1], [50], [3, 90]):
        assert np.array_equal(choose(path, choice), [frames[index] for index in choice])
    assert not work.packets


@pytest.mark.parametrize("name", ["H.264 with B frames", "H.264 in Matroska", "HEVC, open GOPs", "MJPEG"])
def test_damage_that_is_not_reached_does_no_harm(folder, name):
    """Units of later packets cannot be told apart; the first frames can be decoded all the same."""
    whole = FILMS[name].write(folder)
    data, frames = whole.read_bytes(), decode_slowly(whole)
    end = data.rfind(b"moov") if b"moov" in data else len(data)  # an MP4's index comes after the packets
    start, stop = end // 2, end * 9 // 10
    source = open_source(data[:start] + b"\xff" * (stop - start) + data[stop:], label="video", limits=Limits())
    found = list(decode_frames(source, [3, 9], header=read_header(source, limits=Limits())))
    assert np.array_equal(found, [frames[3], frames[9]])


def test_packets_without_a_frame_of_their_own_are_noticed(folder, work):
    """AV1 stores frames that are not shown; here each has a packet, and counting packets would shift all others."""
    whole = write_video(folder / "units.mkv", n_frames=N_FRAMES, codec="libsvtav1", gop=GOP,
                        codec_options={"preset": "10"})  # fmt: skip
    path = folder / "split.mkv"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        split = av.bitstream.BitStreamFilterContext("av1_frame_split", source.streams.video[0])
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        clock = -1
        for packet in source.demux(source.streams.video[0]):
            for part in split.filter(packet if packet.size else None):
                clock = max(clock + 1, part.pts or 0)  # no two at one time
                part.pts = part.dts = clock
                part.stream = stream
                target.mux(part)
    frames = decode_slowly(path)
    n_packets = read_header(open_source(path, label="video", limits=Limits()), limits=Limits()).total_frames
    assert n_packets > len(frames) == N_FRAMES
    for choice in ([60, 80], [0, 30, 90]):
        assert np.array_equal(choose(path, choice), [frames[index] for index in choice])
    assert work.packets  # it was tried


def flash_tags(path):
    """The tags of an FLV file, as `(type, time_ms, body)`."""
    data = path.read_bytes()
    place = 13
    while place < len(data):
        size = int.from_bytes(data[place + 1 : place + 4])
        time_ms = int.from_bytes(data[place + 7 : place + 8] + data[place + 4 : place + 7])
        yield data[place], time_ms, data[place + 11 : place + 11 + size]
        place += 11 + size + 4


def flash_tag(kind, time_ms, body):
    clock = time_ms.to_bytes(4)
    head = bytes([kind]) + len(body).to_bytes(3) + clock[1:] + clock[:1] + bytes(3)
    return head + body + (len(head) + len(body)).to_bytes(4)


def test_a_change_of_parameters_is_not_skipped(folder):
    """A second half of another encoder: its parameters come with its first packet alone."""
    halves = [
        write_video(folder / f"{name}.flv", n_frames=N_FRAMES // 2, codec="libx264", gop=GOP,
                    codec_options={"bf": "0", "x264-params": params})
        for name, params in (("first", "cabac=1:ref=4"), ("second", "cabac=0:8x8dct=0:ref=1"))
    ]  # fmt: skip
    path = folder / "joined.flv"
    second = b"".join(flash_tag(kind, time_ms + 10_000, body) for kind, time_ms, body in flash_tags(halves[1]))
    path.write_bytes(halves[0].read_bytes() + second)
    frames = decode_slowly(path)
    assert len(frames) == N_FRAMES
    for choice in ([0, 110], [75, 115], [85]):
        assert np.array_equal(choose(path, choice), [frames[index] for index in choice])


# The plan


def stream_of(seed):
    """Packets of groups of pictures, in the order of decoding, and which packets each of them looks at."""
    random = np.random.default_rng(seed)
    times, entries, looks_at = [], [], []
    for group in range(random.integers(1, 7)):
        clock = 3 * len(times)
        labelled = group == 0 or random.random() < 0.8
        n_leading = random.integers(0, 4) if group else 0  # shown before the key frame, after which they come
        n_trailing = random.integers(0, 30)
        trailing = n_leading + 1 + random.permutation(n_trailing) if seed % 2 else n_leading + 1 + np.arange(n_trailing)
        for place, shift in enumerate([n_leading, *random.permutation(n_leading), *trailing]):
            times.append(clock + 3 * shift)
            entries.append(place == 0 and labelled)
            # the last entry that is not shown later; what was decoded or is shown before that is out of sight
            entry = max(other for other in np.flatnonzero(entries) if times[other] <= times[-1])
            seen = [other for other in range(entry, len(times) - 1) if times[other] >= times[entry]]
            looks_at.append([] if entries[-1] else seen)
    shown = random.random(len(times)) < 0.9
    packets = Packets(
        times=np.array(times), shown=shown, entries=np.array(entries), time_base=Fraction(1, 25), complete=True
    )
    return packets, looks_at


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.data())
def test_a_plan_decodes_all_that_its_frames_look_at(seed, data):
    packets, looks_at = stream_of(seed)
    in_order = sorted(np.flatnonzero(packets.shown).tolist(), key=lambda position: packets.times[position])
    if not in_order:
        return
    wanted = sorted(data.draw(st.sets(st.integers(0, len(in_order) - 1), min_size=1, max_size=5)))
    runs = plan_runs(packets, wanted, total_frames=len(in_order))
    if not runs:
        return
    assert [frame for run in runs for frame in run.frames] == wanted
    reach = 0
    for run in runs:
        assert run.start == 0 or run.start - reach >= 8
        assert packets.entries[run.start]
        reach = run.stop
        exact = set()  # positions that the run decodes as a decode from the start would
        for position in range(run.start, run.stop):
            if exact.issuperset(looks_at[position]):
                exact.add(position)
        assert {in_order[frame] for frame in run.frames} <= exact
        begins_at = packets.times[run.start]
        assert run.first_frame == sum(packets.times[position] < begins_at for position in in_order)
    assert sum(run.stop - run.start for run in runs) < max(in_order[: wanted[-1] + 1]) + 1  # than from the start


def packets_of(times, *, keys, complete=True):
    entries = np.isin(np.arange(len(times)), keys)
    return Packets(
        times=np.array(times),
        shown=np.ones(len(times), bool),
        entries=entries,
        time_base=Fraction(1, 25),
        complete=complete,
    )


@pytest.mark.parametrize(
    ("packets", "n_runs"),
    [
        (packets_of(range(40), keys=[0, 20]), 2),
        (packets_of(range(40), keys=[0, 20], complete=False), 0),
        (packets_of(range(40), keys=[20]), 0),
        (packets_of([2, 0, 1, *range(3, 40)], keys=[0, 20]), 0),  # the first packet is not shown first
        (packets_of([*range(39), 38], keys=[0, 20]), 0),  # two at one time
        (packets_of([*range(19), 25, 19, *range(26, 45)], keys=[0, 20]), 0),  # shown after a later key frame
        (packets_of(range(39), keys=[0, 20]), 0),  # the header counts 40 frames
        (packets_of(range(40), keys=[0]), 0),
    ],
)
def test_nothing_is_skipped_where_the_packets_do_not_tell(packets, n_runs):
    assert len(plan_runs(packets, [2, 30], total_frames=40)) == n_runs
