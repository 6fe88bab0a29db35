"""Records that travel through the package: grids, segments, and the tensors that the model takes."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.errors import InputError, MediaError
from gemma4_mm.optional import require
from gemma4_mm.spec import MERGED_PATCH_PX, SAMPLE_RATE_HZ, MediaKind

SegmentKind = Literal["text", "padding", "image", "video", "audio"]
_METADATA_KEY: Final = "gemma4_mm"
_FORMAT_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class PatchGrid:
    """A grid of merged 48 px patches, one soft token each.

    Attributes:
        rows: merged patches from top to bottom.
        columns: merged patches from left to right.
    """

    rows: int
    columns: int

    @property
    def height_px(self) -> int:
        """Height of the resized image, a multiple of 48."""
        return self.rows * MERGED_PATCH_PX

    @property
    def width_px(self) -> int:
        """Width of the resized image, a multiple of 48."""
        return self.columns * MERGED_PATCH_PX

    @property
    def n_tokens(self) -> int:
        """Soft tokens of one image or frame."""
        return self.rows * self.columns


@dataclass(frozen=True, kw_only=True)
class ImageSize:
    """Size of an image as the model sees it, after EXIF rotation; for plans without the image itself."""

    height_px: int
    width_px: int


@dataclass(frozen=True, kw_only=True)
class AudioLength:
    """Length of an audio, for plans without the audio itself.

    Attributes:
        n_samples: samples at 16 kHz.
    """

    n_samples: int

    @classmethod
    def from_seconds(cls, duration_s: float) -> "AudioLength":
        """A length of `duration_s` seconds, rounded up to whole samples."""
        return cls(n_samples=math.ceil(duration_s * SAMPLE_RATE_HZ))


@dataclass(frozen=True, kw_only=True)
class VideoSize:
    """Size of a video, for plans without the video itself.

    Attributes:
        total_frames: frames of the whole video.
        fps: frames per second.
        height_px: height of a frame.
        width_px: width of a frame.
    """

    total_frames: int
    fps: float
    height_px: int
    width_px: int


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of tokens of one kind in one row of the batch; a row's segments tile it without gaps.

    Attributes:
        kind: `text` (boi, eoi, boa, eoa and timestamps belong to it), `padding`, or the kind of the soft tokens.
        row: row of the batch.
        start: first token, counted in the padded row.
        stop: one past the last token.
        item: index among the media of this kind in the whole batch, in order of appearance; None for text, padding.
        frame: index of the sampled frame within its video; None for everything else.
        grid: patch grid of an image or frame; None for everything else.
    """

    kind: SegmentKind
    row: int
    start: int
    stop: int
    item: int | None = None
    frame: int | None = None
    grid: PatchGrid | None = None

    @property
    def n_tokens(self) -> int:
        """Tokens of the run."""
        return self.stop - self.start


class ModelInputs(Mapping[str, NDArray[Any]]):
    """The tensors of one processor call, under Hugging Face's names, shapes and dtypes, as numpy arrays.

    Keys are exactly those that `Gemma4UnifiedProcessor` returns for the same call: `input_ids`, `attention_mask`,
    `mm_token_type_ids` int64 `(batch, length)`; `pixel_values` float32 `(images, budget, 6912)` with
    `image_position_ids` int64 `(images, budget, 2)`; `pixel_values_videos`, `video_position_ids` with frames first and
    `num_frames_per_video` int64; `input_features` float32 `(audios, frames, 640)` with `input_features_mask` bool. For
    float32 stands the `dtype` that the call asked for.

    Attributes:
        segments: what each token is, row by row; see `Segment`.
        profile: name of the reference behaviour that the tensors reproduce.
    """

    def __init__(self, tensors: Mapping[str, NDArray[Any]], *, segments: Sequence[Segment], profile: str) -> None:
        self._tensors = dict(tensors)
        self.segments = tuple(segments)
        self.profile = profile

    def __getitem__(self, key: str) -> NDArray[Any]:
        return self._tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{key} {value.dtype}{list(value.shape)}" for key, value in self.items())
        return f"ModelInputs({shapes}; profile {self.profile})"

    @cached_property
    def token_counts(self) -> dict[MediaKind, tuple[int, ...]]:
        """Soft tokens per item and kind, in order of appearance; a video counts all of its frames."""
        counts: dict[MediaKind, dict[int, int]] = {"image": {}, "video": {}, "audio": {}}
        for segment in self.segments:
            if segment.item is not None and segment.kind in counts:
                per_item = counts[segment.kind]
                per_item[segment.item] = per_item.get(segment.item, 0) + segment.n_tokens
        return {kind: tuple(per_item[item] for item in sorted(per_item)) for kind, per_item in counts.items()}

    def image_patches(self, item: int) -> NDArray[np.float32]:
        """View of image `item`'s rows without padding, float32 `(tokens, 6912)`."""
        return self["pixel_values"][item, : _valid(self["image_position_ids"][item])]

    def video_patches(self, item: int) -> NDArray[np.float32]:
        """View of video `item`'s frames without padding rows, float32 `(frames, tokens per frame, 6912)`."""
        pixels, positions = self["pixel_values_videos"], self["video_position_ids"]
        if pixels.ndim == 4:  # the stacked layout before transformers 5.19
            return pixels[item, :, : _valid(positions[item, 0])]
        stops = np.cumsum(self["num_frames_per_video"])
        first = int(stops[item]) - int(self["num_frames_per_video"][item])
        return pixels[first : int(stops[item]), : _valid(positions[first])]

    def audio_frames(self, item: int) -> NDArray[np.float32]:
        """View of audio `item`'s frames without padding rows, float32 `(tokens, 640)`."""
        return self["input_features"][item, : int(self["input_features_mask"][item].sum())]

    @cached_property
    def content_keys(self) -> dict[MediaKind, tuple[str, ...]]:
        """SHA-256 per media item: what the model sees of it, under which profile. For prefix and embedding caches.

        The key covers the item's valid rows (decoded content after resize and framing), its grid and the profile, so
        two items with one key have the same embeddings, and a changed pixel that reaches the model changes the key.
        Computed at the first access.
        """
        views = {"image": self.image_patches, "video": self.video_patches, "audio": self.audio_frames}
        grids = {(segment.kind, segment.item): segment.grid for segment in self.segments}
        keys: dict[MediaKind, tuple[str, ...]] = {}
        for kind, counts in self.token_counts.items():
            digests = []
            for item in range(len(counts)):
                values = np.ascontiguousarray(views[kind](item))
                header = [kind, self.profile, list(values.shape), _grid_json(grids.get((kind, item)))]
                if values.dtype != np.float32:
                    header.append(values.dtype.name)
                digest = hashlib.sha256(json.dumps(header).encode())
                digest.update(values.reshape(-1).view(np.uint8).data)
                digests.append(digest.hexdigest())
            keys[kind] = tuple(digests)
        return keys

    def save(self, path: str | Path) -> None:
        """Write all tensors, the segments and the profile to one `.safetensors` file, whole or not at all.

        Raises:
            InputError: the path cannot be written.
        """
        path = Path(path)
        record = {
            "version": _FORMAT_VERSION,
            "profile": self.profile,
            "segments": write_segments(self.segments),
        }
        partial = path.with_name(f".{path.name}.partial")
        try:
            tensors = {key: np.ascontiguousarray(value) for key, value in self.items()}
            require("safetensors.numpy").save_file(tensors, partial, metadata={_METADATA_KEY: json.dumps(record)})
            partial.replace(path)
        except (OSError, require("safetensors").SafetensorError) as error:
            raise InputError(f"cannot write {path}: {error}; choose a writable path") from error
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> "ModelInputs":
        """Read a file that `save` wrote.

        Raises:
            MediaError: the file is missing, damaged, or was not written by `save`.
            MissingDependencyError: it holds bfloat16, and ml_dtypes is not installed.
        """
        safetensors = require("safetensors")
        try:
            with safetensors.safe_open(str(path), framework="numpy") as file:
                record = json.loads((file.metadata() or {}).get(_METADATA_KEY, "null"))
                tensors = {key: read_tensor(file, key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        except (OSError, safetensors.SafetensorError, json.JSONDecodeError) as error:
            raise MediaError(
                f"cannot read {path} as saved ModelInputs: {error}; write it with ModelInputs.save"
            ) from error
        if not isinstance(record, dict) or record.get("version") != _FORMAT_VERSION:
            raise MediaError(f"{path} is a safetensors file, but not saved ModelInputs; write it with ModelInputs.save")
        return cls(tensors, segments=read_segments(record["segments"]), profile=record["profile"])


def read_tensor(file: Any, name: str) -> NDArray[Any]:
    """Read one tensor of a file that `safetensors.safe_open` opened for numpy.

    Raises:
        MissingDependencyError: it is bfloat16, and ml_dtypes is not installed.
    """
    if file.get_slice(name).get_dtype() == "BF16":
        require("ml_dtypes", extra="fast")  # teaches numpy the type
    tensor: NDArray[Any] = file.get_tensor(name)
    return tensor


def write_segments(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    """Segments as JSON types, as files hold them."""
    return [asdict(segment) for segment in segments]


def read_segments(records: Sequence[Mapping[str, Any]]) -> list[Segment]:
    """What `write_segments` wrote."""
    return [Segment(**{**item, "grid": PatchGrid(**item["grid"]) if item["grid"] else None}) for item in records]


def _valid(position_ids: NDArray[np.int64]) -> int:
    """Rows before the padding, whose positions are -1."""
    return int((position_ids[:, 0] >= 0).sum())


def _grid_json(grid: PatchGrid | None) -> list[int] | None:
    return None if grid is None else [grid.rows, grid.columns]
