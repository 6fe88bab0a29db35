"""The multimodal constants of a bundle: written as one block of `metadata.json`, read wherever they are found."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final

from gemma4_mm.spec import (
    PATCH_VALUES,
    SAMPLE_RATE_HZ,
    SAMPLES_PER_TOKEN,
    SLIDING_WINDOW,
    SOFT_TOKEN_BUDGETS,
    MaskRule,
    TokenIds,
)

BLOCK: Final = "multimodal"  # our key in metadata.json; Apple's readers ignore keys that they do not know
STOP_IDS: Final = (1, 106, 50)  # generation_config.json eos_token_id: <eos>, <turn|>, <|tool_response>
SUPPRESSED_IDS: Final = (258_883, 258_882)  # generation_config.json suppress_tokens: eoa, eoi
IMAGE_SOFT_TOKENS: Final = 280  # processor_config.json image_processor.max_soft_tokens
VIDEO_SOFT_TOKENS: Final = 70  # video_processor.max_soft_tokens, per frame
VIDEO_FRAMES: Final = 32  # video_processor.num_frames
POSITION_TABLE: Final = 1120  # vision_config.mm_posemb_size, entries per axis

# Names under which the same constant travels elsewhere; the first one is what this package writes.
_TOKEN_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    name: (f"{name}_token_id", f"{name}_token", f"{name}_token_index", f"{name}_id", name)
    for name in (token.name for token in fields(TokenIds))
}
_OTHER_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "stop_ids": ("stop_token_ids", "stop_tokens", "stop_ids", "eos_token_ids"),
    "suppressed_ids": ("suppress_tokens", "suppressed_token_ids", "suppressed_ids"),
    "image_soft_tokens": ("image_soft_tokens", "max_soft_tokens", "image_token_count"),
    "video_soft_tokens": ("video_soft_tokens", "tokens_per_frame"),
    "soft_token_budgets": ("soft_token_budgets",),
    "video_frames": ("video_frames", "max_video_frames"),
    "sliding_window": ("sliding_window", "window"),
    "position_table": ("position_table", "mm_posemb_size"),
    "patch_values": ("patch_values", "patch_dim"),
    "samples_per_token": ("samples_per_token", "audio_samples_per_token"),
    "sample_rate_hz": ("sample_rate_hz", "sampling_rate", "sample_rate"),
    "mask_rule": ("mask_rule", "mask_profile"),
}
_LISTS: Final = frozenset({"stop_ids", "suppressed_ids", "soft_token_budgets"})
_MASK_RULES: Final = ("forward", "static", "deepmind")


@dataclass(frozen=True, kw_only=True)
class MultimodalConstants:
    """What a client must know to run the bundle; defaults are google/gemma-4-12B-it's.

    Attributes:
        tokens: ids of the special tokens.
        stop_ids: ids that end a generation. They travel explicitly: a search by token text misses `<turn|>`.
        suppressed_ids: ids that are never sampled.
        image_soft_tokens: default budget of an image.
        video_soft_tokens: default budget of a video frame.
        soft_token_budgets: budgets that the image processor knows.
        video_frames: frames sampled from a video by default.
        sliding_window: keys that a sliding layer sees.
        position_table: patch positions per axis.
        patch_values: width of `pixel_values`.
        samples_per_token: width of `input_features`.
        sample_rate_hz: of the audio.
        mask_rule: attention rule for which the weights are meant to be run; see `core.attention.mask_rules`.
    """

    tokens: TokenIds = field(default_factory=TokenIds)
    stop_ids: tuple[int, ...] = STOP_IDS
    suppressed_ids: tuple[int, ...] = SUPPRESSED_IDS
    image_soft_tokens: int = IMAGE_SOFT_TOKENS
    video_soft_tokens: int = VIDEO_SOFT_TOKENS
    soft_token_budgets: tuple[int, ...] = SOFT_TOKEN_BUDGETS
    video_frames: int = VIDEO_FRAMES
    sliding_window: int = SLIDING_WINDOW
    position_table: int = POSITION_TABLE
    patch_values: int = PATCH_VALUES
    samples_per_token: int = SAMPLES_PER_TOKEN
    sample_rate_hz: int = SAMPLE_RATE_HZ
    mask_rule: MaskRule = "forward"

    def to_json(self) -> dict[str, Any]:
        """The `multimodal` block of `metadata.json`."""
        block = {_TOKEN_KEYS[name][0]: value for name, value in asdict(self.tokens).items()}
        for name, keys in _OTHER_KEYS.items():
            value = getattr(self, name)
            block[keys[0]] = list(value) if name in _LISTS else value
        return block

    @classmethod
    def from_json(cls, metadata: Mapping[str, Any]) -> "FoundConstants":
        """Look for each constant in `metadata`: in its `multimodal` block, then in any other, then at the top.

        The documented bundle holds some of them, at places that are not documented.
        """
        blocks = list(_blocks(metadata))
        found = _Finder(blocks)
        tokens = {name: found.integer(keys) for name, keys in _TOKEN_KEYS.items()}
        values: dict[str, Any] = {}
        for name, keys in _OTHER_KEYS.items():
            if name in _LISTS:
                values[name] = found.integers(keys)
            elif name == "mask_rule":
                values[name] = found.choice(keys, _MASK_RULES)
            else:
                values[name] = found.integer(keys)
        constants = replace(cls(tokens=replace(TokenIds(), **_present(tokens))), **_present(values))
        missing = [keys[0] for keys in (*_TOKEN_KEYS.values(), *_OTHER_KEYS.values()) if not found.places.get(keys[0])]
        return FoundConstants(
            constants=constants, places=dict(found.places), missing=tuple(missing), malformed=tuple(found.malformed)
        )


@dataclass(frozen=True, kw_only=True)
class FoundConstants:
    """Constants read from a `metadata.json`, and how.

    Attributes:
        constants: what was found, over the defaults.
        places: for each key found, where, e.g. `{"image_token_id": "vision.image_token_id"}`.
        missing: keys for which the default stands in.
        malformed: values that are there but cannot be used, in words.
    """

    constants: MultimodalConstants
    places: Mapping[str, str]
    missing: tuple[str, ...]
    malformed: tuple[str, ...]


class _Finder:
    """Looks keys up in blocks, in order, and keeps account."""

    def __init__(self, blocks: list[tuple[str, Mapping[str, Any]]]) -> None:
        self._blocks = blocks
        self.places: dict[str, str] = {}
        self.malformed: list[str] = []

    def integer(self, keys: tuple[str, ...]) -> int | None:
        value: int | None = self._look(keys, _is_count, "a whole number ≥ 0")
        return value

    def integers(self, keys: tuple[str, ...]) -> tuple[int, ...] | None:
        value = self._look(keys, _is_count_list, "a list of whole numbers ≥ 0")
        return None if value is None else tuple(value)

    def choice(self, keys: tuple[str, ...], choices: tuple[str, ...]) -> str | None:
        value: str | None = self._look(keys, lambda value: value in choices, f"one of {', '.join(choices)}")
        return value

    def _look(self, keys: tuple[str, ...], fits: Any, wanted: str) -> Any:
        for place, block in self._blocks:
            for key in keys:
                if key not in block or isinstance(block[key], Mapping):
                    continue
                label = f"{place}.{key}" if place else key
                if fits(block[key]):
                    self.places[keys[0]] = label
                    return block[key]
                if key == keys[0] or place.startswith(BLOCK):  # elsewhere the short names may mean something else
                    self.malformed.append(f"{label} is {block[key]!r}; it must be {wanted}")
        return None


def _blocks(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Our block first, then every other one, nested ones after their parents, the top level last."""
    ours = metadata.get(BLOCK)
    if isinstance(ours, Mapping):
        yield from _walk(BLOCK, ours)
    for key, value in metadata.items():
        if key != BLOCK and isinstance(value, Mapping):
            yield from _walk(key, value)
    yield "", metadata


def _walk(place: str, block: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield place, block
    for key, value in block.items():
        if isinstance(value, Mapping):  # two levels: deeper ones are no constants, and the file is not ours
            yield f"{place}.{key}", value


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_count_list(value: Any) -> bool:
    return isinstance(value, list) and all(_is_count(item) for item in value)
