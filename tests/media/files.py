"""Real media files, made from formulas: JPEG and friends, sounds in every format, and videos with odd metadata."""

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image


def scene(*, height_px, width_px, channels=3, shift=0):
    """Smooth shading with an edge and grain, uint8 `(height, width, channels)`; every pixel tells where it is."""
    y, x = np.mgrid[0:height_px, 0:width_px]
    planes = [
        (x * 5 + y * 3 + shift * 11) % 256,
        (x * y // 7 + shift) % 256,
        (x**2 // 9 + 2 * y) % 256,
        (x * 7 + y) % 256,
    ]
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


def image_bytes(image, form, **options):
    """Encode a Pillow image."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def photo(*, height_px=61, width_px=83):
    """A Pillow RGB image."""
    return Image.fromarray(scene(height_px=height_px, width_px=width_px))


def oriented(image, form, orientation):
    """Encode a Pillow image with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return image_bytes(image, form, exif=exif)


def png_chunk(kind, data):
    """One PNG chunk with its checksum."""
    import zlib

    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def sound(*, n_samples, channels=1, level=0.7):
    """Sweeps, another one in each channel, float64 `(n_samples, channels)`."""
    time = np.arange(n_samples)[:, None] / 48_000
    channel = np.arange(1, channels + 1)
    return level * np.sin(2 * np.pi * (180 * channel * time + 900 * time**2))


def write_sound(path, *, rate_hz, n_samples, channels=1, form="WAV", subtype="PCM_16"):
    """Write an audio file."""
    soundfile.write(path, sound(n_samples=n_samples, channels=channels), rate_hz, format=form, subtype=subtype)
    return Path(path)


def wav_bytes(*, data=b"\x00\x01" * 800, data_size=None, riff_size=None, rate_hz=16_000, channels=1):
    """A 16-bit WAV, header written by hand, so that its sizes can lie."""
    data_size = len(data) if data_size is None else data_size
    riff_size = 36 + len(data) if riff_size is None else riff_size
    width = 2 * channels
    head = struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", riff_size, b"WAVE", b"fmt ", 16, 1, channels, rate_hz, rate_hz * width, width, 16
    )
    return head + struct.pack("<4sI", b"data", data_size) + data


def write_video(
    path,
    *,
    n_frames=40,
    fps=24,
    height_px=48,
    width_px=64,
    codec="libx264",
    pixel_format="yuv420p",
    form=None,
    times_ms=None,
    rotation=None,
    gop=12,
    options=None,
    codec_options=None,
    metadata=None,
):
    """Write a video whose frames all differ; `times_ms` makes the rate variable, `rotation` is counter-clockwise."""
    with av.open(str(path), "w", format=form, options=options or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = height_px, width_px, pixel_format
        stream.codec_context.gop_size = gop
        stream.options = codec_options or {}
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(n_frames):
            frame = av.VideoFrame.from_ndarray(
                scene(height_px=height_px, width_px=width_px, shift=index), format="rgb24"
            )
            frame.pts = index if times_ms is None else times_ms[index]
            frame.time_base = Fraction(1, fps) if times_ms is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Path(path)


def trim_by_edit_list(path, source, *, n_frames, fps=24):
    """Copy an MP4 so that its edit list hides the first `n_frames`, as phones trim videos."""
    with av.open(str(source)) as whole, av.open(str(path), "w") as trimmed:
        stream = trimmed.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(whole.streams.video[0]):
            if packet.size:
                shift = round(n_frames / fps / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = stream
                trimmed.mux(packet)
    return Path(path)


def write_sound_only_mp4(path):
    """Write an MP4 with an AAC track and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Path(path)
