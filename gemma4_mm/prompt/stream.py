"""Token ids to text while they arrive: pieces that join to exactly the text of the whole, never half a character."""

import re
from typing import Final

from gemma4_mm.prompt.tokenizer import Tokenizer

_BYTE: Final = re.compile(r"<0x[0-9A-Fa-f]{2}>")  # a byte-fallback token, as the tokenizers library spells it


class TextStream:
    """Decodes one token sequence piece by piece.

    A character outside the vocabulary comes as several tokens of one byte each, and a decoder reads a whole run of
    them at once: valid UTF-8 or as many replacement characters. So a run is held back until it ends; everything else
    is text at once. (`tokenizers.decoders.DecodeStream` emits within a run, has no end, and so can lose text.)

    Args:
        tokenizer: whose ids come.
        skip_special_tokens: whether to leave out special tokens.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = False) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._held: list[int] = []

    def push(self, token_id: int) -> str:
        """Take the next token; returns the text that is now certain, often empty."""
        piece = self._tokenizer.piece(token_id)
        # What leaves no text does not end a run either: the decoder does not see it
        if piece is None or (self._skip_special_tokens and token_id in self._tokenizer.special_ids):
            return ""
        self._held.append(token_id)
        return "" if _BYTE.fullmatch(piece) else self.flush()

    def flush(self) -> str:
        """The text of what is held back; call it after the last token."""
        held, self._held = self._held, []
        return self._tokenizer.decode(held) if held else ""
