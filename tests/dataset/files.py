"""Request files with real media, and folders compared byte by byte."""

import hashlib
import json

from gemma4_mm.cli.demo_media import write_clip, write_photo, write_sound

OPTIONS = {"max_soft_tokens": 70, "num_frames": 2}
PARTS = (
    {"type": "image", "image": "media/photo.jpg"},
    {"type": "audio", "audio": "media/sound.wav"},
    {"type": "text", "text": "No media at all."},
    {"type": "video", "video": "media/clip.mp4"},
)


def write_media(folder):
    """The files that requests name, under `media/`."""
    media = folder / "media"
    media.mkdir()
    write_photo(media / "photo.jpg", width_px=120, height_px=90)
    write_sound(media / "sound.wav", duration_s=0.35)  # 9 frames: a mask of an odd number of bytes
    write_clip(media / "clip.mp4", duration_s=0.5, width_px=64, height_px=48)


def request(index, *, part=None, **other):
    """One request, told apart from the others by its text."""
    content = [part or PARTS[index % len(PARTS)], {"type": "text", "text": f"This is request {index}."}]
    return {"id": f"r{index}", "messages": [{"role": "user", "content": content}], **other}


def write_requests(path, records):
    """A JSON Lines file; text is written as it is."""
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def contents(folder):
    """Every file that a run is for, by name, with the SHA-256 of its bytes; no partial file may be left."""
    names = sorted(path.name for path in folder.iterdir() if path.name != ".lock")
    assert not [name for name in names if name.startswith(".")]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def read_lines(path):
    """The records of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
