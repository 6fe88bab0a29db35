"""Kinds of tokens as pictures and drawings of masks tell them apart: the token types, and padding."""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

PADDING_KIND: Final = 4
KIND_NAMES: Final = ("text", "image", "video", "audio", "padding")
KIND_COLOURS: Final = np.array(  # RGB of an attended key by kind; padding is never attended to
    [[70, 78, 92], [33, 113, 181], [129, 63, 168], [35, 139, 90], [0, 0, 0]], np.float32
)


def token_kinds(types: ArrayLike, attention: ArrayLike) -> NDArray[np.int64]:
    """Kinds of tokens, int64 in the shape of both: 0 text, 1 image, 2 video, 3 audio, 4 padding.

    Args:
        types: `mm_token_type_ids`.
        attention: the attention mask, 0 = padding.
    """
    return np.where(np.asarray(attention) == 0, PADDING_KIND, types).astype(np.int64)
