"""Text to token ids and back, through the `tokenizers` library, as transformers' `GemmaTokenizer` does it."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gemma4_mm.errors import AssetError, InputError, plain_text, shown
from gemma4_mm.optional import require
from gemma4_mm.prompt.control_tokens import TokenMarks, split_settled
from gemma4_mm.spec import (
    AUDIO_TOKEN,
    BOA_TOKEN,
    BOI_TOKEN,
    EOA_TOKEN,
    EOI_TOKEN,
    IMAGE_TOKEN,
    VIDEO_TOKEN,
    TokenIds,
)

# Class defaults of HF's GemmaTokenizer, for a directory without tokenizer_config.json
_DEFAULT_SPECIAL_TOKENS: Final = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "unk", "pad", "mask")}
_MAX_ID: Final = 2**32 - 1  # what the tokenizers library can be asked for
_MEDIA_TOKENS: Final = {
    "boi": BOI_TOKEN,
    "boa": BOA_TOKEN,
    "image": IMAGE_TOKEN,
    "audio": AUDIO_TOKEN,
    "eoi": EOI_TOKEN,
    "eoa": EOA_TOKEN,
    "video": VIDEO_TOKEN,
}


class Tokenizer:
    """A `tokenizer.json` and its configuration.

    Args:
        path: the `tokenizer.json`.
        config: parsed `tokenizer_config.json`; empty for the defaults.

    Raises:
        AssetError: the file cannot be read, or is not a tokenizer.
    """

    def __init__(self, path: Path, *, config: Mapping[str, Any] | None = None) -> None:
        self._path = path
        self._config = dict(config or {})
        tokenizers = require("tokenizers")
        try:
            # From memory rather than from the file: no slower, and a bad file is a ValueError
            self._backend = tokenizers.Tokenizer.from_buffer(path.read_bytes())
        except (OSError, ValueError) as error:
            raise AssetError(f"cannot read {path} as a tokenizer: {error}; restore the file") from error
        self._backend.no_truncation()
        self._backend.no_padding()

    def encode(self, text: str) -> NDArray[np.int64]:
        """Token ids of `text`, int64 `(tokens,)`: special tokens in it are recognised, none is added.

        Raises:
            InputError: `text` is not a string, or holds lone surrogates, which no encoding can write.
        """
        return np.array(self._encode(text), np.int64)

    def encode_marked(self, text: str) -> NDArray[np.int64]:
        """Token ids of a settled text (see `prompt.control_tokens`), int64 `(tokens,)`.

        Plain text is cut at the control tokens that stand in it, and a piece after a cut is encoded after a newline,
        which is then removed: the ids of transformers 5.24 under `sanitize_control_tokens`.

        Raises:
            InputError: as `encode`, or plain text cannot spell a control token other than by its own id.
        """
        ids: list[int] = []
        newline = self._spell("\n")
        after_cut = False
        for piece in split_settled(text, self._added_tokens):
            if piece.kind == "token":
                ids.append(self._backend.token_to_id(piece.text))
                after_cut = False
                continue
            if piece.text:
                ids += self._spell_piece(piece.text, after=newline if after_cut or piece.kind == "typed" else [])
            after_cut = piece.kind == "typed"
        return np.array(ids, np.int64)

    def decode(self, ids: ArrayLike, *, skip_special_tokens: bool = False) -> str:
        """Text of token ids; ids that the vocabulary does not hold are left out, as HF leaves them out.

        Args:
            ids: one id, or a sequence of them.
            skip_special_tokens: whether to leave out special tokens.

        Raises:
            InputError: `ids` are not whole numbers from 0 up, or more than one row.
        """
        return str(self._backend.decode(_row_of_ids(ids), skip_special_tokens=skip_special_tokens))

    def batch_decode(self, rows: Sequence[ArrayLike] | NDArray[Any], *, skip_special_tokens: bool = False) -> list[str]:
        """`decode` of each row."""
        return [self.decode(row, skip_special_tokens=skip_special_tokens) for row in rows]

    def piece(self, token_id: int) -> str | None:
        """The vocabulary's entry of one id, undecoded (`▁the`, `<0x0A>`, `<eos>`); None for an id that it lacks."""
        piece: str | None = self._backend.id_to_token(token_id)
        return piece

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids that `skip_special_tokens` leaves out."""
        return frozenset(index for index, token in self._backend.get_added_tokens_decoder().items() if token.special)

    @cached_property
    def token_ids(self) -> TokenIds:
        """Ids of the special tokens, looked up by their text.

        Raises:
            AssetError: the tokenizer does not have one of them.
        """
        texts = {name: self.special_tokens_map.get(f"{name}_token", "") for name in ("pad", "eos", "bos")}
        ids = {name: self._backend.token_to_id(text) for name, text in (texts | _MEDIA_TOKENS).items()}
        missing = [name for name, token_id in ids.items() if token_id is None]
        if missing:
            raise AssetError(
                f"{self._path} has no token for {', '.join(missing)}; it is not a Gemma 4 tokenizer, pass one that is"
            )
        return TokenIds(**ids)

    @cached_property
    def special_tokens_map(self) -> dict[str, str]:
        """Named special tokens, such as `bos_token`, that a chat template can read."""
        named = {**_DEFAULT_SPECIAL_TOKENS, **self._config}
        for extra in ("extra_special_tokens", "model_specific_special_tokens"):
            if isinstance(self._config.get(extra), dict):
                named |= self._config[extra]
        contents = {name: _content(token) for name, token in named.items() if name.endswith("_token")}
        return {name: content for name, content in contents.items() if content is not None}

    def control_tokens(self, template_text: str) -> tuple[str, ...]:
        """Tokens that user text must not write: the special ones, and what the configuration or the template names.

        Args:
            template_text: `ChatTemplate.literal_text`.
        """
        listed = self._config.get("chat_control_tokens")
        return tuple(
            content
            for content, special in self._added_tokens.items()
            if special or (content in listed if listed is not None else content in template_text and content.strip())
        )

    def marks(self, template_text: str) -> TokenMarks:
        """Marks of `control_tokens(template_text)`."""
        return TokenMarks(self.control_tokens(template_text))

    @cached_property
    def _added_ids(self) -> frozenset[int]:
        ids = (self._backend.token_to_id(content) for content in self._added_tokens)
        unknown = self._backend.token_to_id(self.special_tokens_map.get("unk_token", ""))
        return frozenset(ids) - {unknown}  # plain text may come to the unknown token

    @cached_property
    def _added_tokens(self) -> dict[str, bool]:
        """Content of every added token, in the order of ids, and whether it is special."""
        tokens = self._backend.get_added_tokens_decoder()
        return {tokens[index].content: bool(tokens[index].special) for index in sorted(tokens)}

    def _encode(self, text: str) -> list[int]:
        try:
            return list(self._backend.encode(text, add_special_tokens=False).ids)
        except TypeError as error:
            raise InputError(_not_text(text, error)) from error

    def _spell_piece(self, text: str, *, after: list[int]) -> list[int]:
        """Ids of plain text, spelled after a newline where `after` holds its ids."""
        run = self._spell(f"\n{text}" if after else text)
        fused = run[: len(after)] != after
        run = self._spell(text) if fused else run[len(after) :]
        if forged := self._added_ids.intersection(run):
            token = shown(self.piece(min(forged)))
            raise InputError(f"{token} cannot be written as plain text with this tokenizer; take it out")
        return run

    def _spell(self, text: str) -> list[int]:
        """Ids of `text` as plain text: no added token is recognised in it."""
        backend = self._backend
        try:
            if backend.normalizer is not None:
                text = backend.normalizer.normalize_str(text)
            words = [text]
            if backend.pre_tokenizer is not None:
                words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
            return [token.id for word in words for token in backend.model.tokenize(word)]
        except (TypeError, UnicodeError) as error:
            raise InputError(_not_text(text, error)) from error


def _not_text(text: Any, error: Exception) -> str:
    return (
        f"text of type {plain_text(type(text).__name__)} cannot be tokenised: {plain_text(error)}; pass a str without "
        "lone surrogates"
    )


def _row_of_ids(ids: ArrayLike) -> list[int]:
    hint = "pass one row of whole numbers from 0 up, or several rows to batch_decode"
    try:
        array = np.atleast_1d(np.asarray(ids))
    except ValueError as error:
        raise InputError(f"token ids are rows of different length; {hint}") from error
    if array.size == 0 and array.ndim == 1:
        return []
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise InputError(f"token ids are an array of {array.dtype} {array.shape}; {hint}")
    if array.min() < 0 or array.max() > _MAX_ID:
        raise InputError(f"token ids range from {array.min()} to {array.max()}; {hint} to {_MAX_ID}")
    return [int(token_id) for token_id in array]


def _content(token: Any) -> str | None:
    """A token as `tokenizer_config.json` writes it: its text, or an object that holds its text."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None
