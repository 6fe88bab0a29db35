"""What is asked of a reply, and what it has come to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.coreai.run.sampling import Sampling
from gemma4_mm.errors import InputError

FinishReason = Literal["stop", "length", "context"]
LogitsProcessor = Callable[[Sequence[int], NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(Sampling):
    """How a reply is written: the fields of `Sampling`, greedy by default, and these.

    Attributes:
        max_tokens: most tokens of the reply, the stop token included.
        stop_ids: ids that end it; None for the bundle's.
        suppressed_ids: ids that are never chosen; None for the bundle's.
        skip_special_tokens: whether special tokens are left out of the text. Thoughts and tool calls are told apart
            from the answer by special tokens: to read those, keep them.
        logits_processor: called with the reply's ids so far and each token's logits, float32 `(vocabulary,)`; returns
            the logits to choose from. For grammars, biases and records.
    """

    max_tokens: int = 512
    stop_ids: Sequence[int] | None = None
    suppressed_ids: Sequence[int] | None = None
    skip_special_tokens: bool = True
    logits_processor: LogitsProcessor | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.max_tokens, bool) or not isinstance(self.max_tokens, int) or self.max_tokens < 1:
            raise InputError(f"max_tokens is {self.max_tokens!r}; it must be a whole number of at least 1")
        for name in ("stop_ids", "suppressed_ids"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, list | tuple) and all(type(id_) is int for id_ in value)):
                raise InputError(f"{name} is {value!r}; it must be a list of token ids, or None for the bundle's")


@dataclass(kw_only=True)
class Statistics:
    """Counts and wall-clock seconds of one reply. What the caller does between two pieces of text is not counted.

    Attributes:
        prompt_tokens: tokens of the whole prompt, media included.
        reused_tokens: those of them whose keys and values were still there.
        generated_tokens: tokens of the reply, the stop token included.
        encode_s: messages to tensors.
        embed_s: media that had to be embedded.
        prefill_s: the prompt's other tokens through the model.
        decode_s: every token after the first.
        time_to_first_token_s: from the start to the choice of the first token.
    """

    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    encode_s: float = 0.0
    embed_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    time_to_first_token_s: float = 0.0

    @property
    def prefilled_tokens(self) -> int:
        """Tokens of the prompt that were computed."""
        return self.prompt_tokens - self.reused_tokens

    @property
    def prefill_tokens_per_s(self) -> float:
        """Prefilled tokens per second of the model's time; 0 before the first one."""
        return self.prefilled_tokens / self.prefill_s if self.prefill_s else 0.0

    @property
    def decode_tokens_per_s(self) -> float:
        """Tokens after the first per second; 0 before the second one."""
        return (self.generated_tokens - 1) / self.decode_s if self.decode_s else 0.0


@dataclass(kw_only=True)
class Reply:
    """A reply, while it is written and afterwards.

    Attributes:
        ids: its tokens, the stop token included.
        pieces: its text, as it was streamed.
        finish_reason: `stop` at a stop token, `length` at `max_tokens`, `context` when the KV state is full; None
            while it is written, and for one that was abandoned.
        statistics: how much and how fast.
    """

    ids: list[int] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    statistics: Statistics = field(default_factory=Statistics)

    @property
    def text(self) -> str:
        """All pieces joined: what the tokenizer decodes `ids` to, without the stop token."""
        return "".join(self.pieces)
