"""Mistakes with tokens: special tokens, types of delimiters, and the side of the padding."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.suspects.scene import Scene, Theory
from gemma4_mm.spec import TYPE_AUDIO, TYPE_IMAGE, TYPE_VIDEO, TokenIds

Rows = NDArray[np.int32]
_IDS: Final = TokenIds()
_ROWS: Final = ("token_ids", "token_types", "attention_mask")
_GENERATION_PROMPT: Final = 3  # tokens of "<|turn>model\n"


def _padded_on_the_right(scene: Scene, stage: str) -> Rows | None:
    rows, attention = scene.expected[stage], scene.expected["attention_mask"]
    return np.stack([np.roll(row, -int((valid == 0).sum())) for row, valid in zip(rows, attention, strict=True)])


def _without_bos(scene: Scene, stage: str) -> Rows | None:
    return scene.expected[stage][:, 1:] if len(scene.expected[stage]) == 1 else None


def _with_two_bos(scene: Scene, stage: str) -> Rows | None:
    rows = scene.expected[stage]
    return np.concatenate([rows[:, :1], rows], axis=1) if len(rows) == 1 else None


def _without(*unwanted: int) -> Callable[[Scene, str], Rows | None]:
    """Leave a token out everywhere, and what stands beside it in the other stages."""

    def make(scene: Scene, stage: str) -> Rows | None:
        ids, attention = scene.expected["token_ids"], scene.expected["attention_mask"]
        kept = ~np.isin(ids, unwanted) & (attention != 0)
        rows = [row[chosen] for row, chosen in zip(scene.expected[stage], kept, strict=True)]
        length = max(map(len, rows))
        return np.stack([np.pad(row, (length - len(row), 0)) for row in rows]).astype(np.int32)

    return make


def _without_generation_prompt(scene: Scene, stage: str) -> Rows | None:
    rows = scene.expected[stage]
    return rows[:, :-_GENERATION_PROMPT] if scene.case.options["arguments"].get("add_generation_prompt") else None


def _typed_delimiters(scene: Scene, stage: str) -> Rows | None:
    """Begin and end tokens typed as what they enclose."""
    ids, types = scene.expected["token_ids"], scene.expected[stage].copy()
    for opening, closing in ((_IDS.boi, _IDS.eoi), (_IDS.boa, _IDS.eoa)):
        after = np.pad(types, ((0, 0), (0, 1)))[:, 1:]
        before = np.pad(types, ((0, 0), (1, 0)))[:, :-1]
        types = np.where(ids == opening, after, np.where(ids == closing, before, types))
    return types.astype(np.int32)


def _typed_as_image(token: int) -> Callable[[Scene, str], Rows | None]:
    def make(scene: Scene, stage: str) -> Rows | None:
        typed: Rows = np.where(scene.expected["token_ids"] == token, TYPE_IMAGE, scene.expected[stage]).astype(np.int32)
        return typed

    return make


_CHANGES: Final[Mapping[str, tuple[str, tuple[str, ...], Callable[[Scene, str], Rows | None]]]] = {
    "padded-right": ("padding on the right instead of the left", _ROWS, _padded_on_the_right),
    "bos-missing": ("no <bos> at the start", _ROWS, _without_bos),
    "bos-doubled": ("<bos> twice at the start", _ROWS, _with_two_bos),
    "boi-missing": ("no <|image> before images and frames", _ROWS, _without(_IDS.boi)),
    "eoi-missing": ("no <image|> after images and frames", _ROWS, _without(_IDS.eoi)),
    "image-delimiters-missing": (
        "neither <|image> nor <image|> around images and frames",
        _ROWS,
        _without(_IDS.boi, _IDS.eoi),
    ),
    "audio-delimiters-missing": ("neither <|audio> nor <audio|> around audio", _ROWS, _without(_IDS.boa, _IDS.eoa)),
    "delimiters-missing": (
        "no begin and end tokens around any medium",
        _ROWS,
        _without(_IDS.boi, _IDS.eoi, _IDS.boa, _IDS.eoa),
    ),
    "boa-missing": ("no <|audio> before audio", _ROWS, _without(_IDS.boa)),
    "eoa-missing": ("no <audio|> after audio", _ROWS, _without(_IDS.eoa)),
    "no-generation-prompt": ("no generation prompt at the end", _ROWS, _without_generation_prompt),
    "delimiters-typed": ("begin and end tokens typed as what they enclose", ("token_types",), _typed_delimiters),
    "boi-typed": ("<|image> typed as image", ("token_types",), _typed_as_image(_IDS.boi)),
    "eoi-typed": ("<image|> typed as image", ("token_types",), _typed_as_image(_IDS.eoi)),
    "audio-untyped": (
        "audio tokens typed as text",
        ("token_types",),
        lambda scene, stage: np.where(scene.expected[stage] == TYPE_AUDIO, 0, scene.expected[stage]).astype(np.int32),
    ),
    "video-as-image": (
        "video tokens typed as image",
        ("token_types",),
        lambda scene, stage: np.where(scene.expected[stage] == TYPE_VIDEO, TYPE_IMAGE, scene.expected[stage]).astype(
            np.int32
        ),
    ),
    "padding-attended": (
        "padding that is not hidden",
        ("attention_mask",),
        lambda scene, stage: np.ones_like(scene.expected[stage]),
    ),
}


def _theory(name: str, words: str, stages: tuple[str, ...], make: Callable[[Scene, str], Rows | None]) -> Theory:
    def compute(scene: Scene, stage: str) -> NDArray[Any] | None:
        return make(scene, stage)

    return Theory(name=name, words=words, kinds=("conversation",), stages=stages, compute=compute)


TOKEN_THEORIES: Final = tuple(_theory(name, *row) for name, row in _CHANGES.items())
