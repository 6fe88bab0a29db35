"""The tokens that a KV state holds: prefilled after the longest prefix that is there already, then grown one by one."""

import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.prefill.chunk import Chunk
from gemma4_mm.core.prefill.chunks import plan_chunks
from gemma4_mm.coreai.run.embeds import EmbeddingCache, Embeddings, embed_media, splice
from gemma4_mm.coreai.run.prefix import PromptTokens, shared_prefix
from gemma4_mm.coreai.run.reply import Statistics
from gemma4_mm.coreai.run.runtime import Runtime
from gemma4_mm.errors import InputError
from gemma4_mm.inputs import ModelInputs, Segment
from gemma4_mm.spec import MaskRule

Logits = NDArray[np.float32]
_NO_TOKENS: Final = PromptTokens(ids=np.zeros(0, np.int64), types=np.zeros(0, np.int64))


class TokenSequence:
    """One token sequence on a runtime. Knows tokens and media, no text.

    Args:
        runtime: whose functions run.
        mask_rule: of vision blocks, see `core.attention.mask_rules`.
        sliding_window: W of the masks.
        max_chunk: most tokens of one prefill call; a longer vision block is a call by itself.
        chunk_lengths: lengths that prefill calls are padded to; None for any up to `max_chunk`.
        rows: of the KV states, where the asset leaves them open.
        cache_bytes: bound on embeddings that are kept.

    Raises:
        InputError: chunk lengths that are not from 1 to `max_chunk`, or rows that the asset does not take.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        mask_rule: MaskRule,
        sliding_window: int,
        max_chunk: int,
        chunk_lengths: Sequence[int] | None,
        rows: int | None,
        cache_bytes: int,
    ) -> None:
        self._runtime = runtime
        self._state = runtime.new_state(rows=rows)
        self._cache = EmbeddingCache(cache_bytes)
        self._prompt, self._appended = _NO_TOKENS, list[int]()
        self._latest: Future[Logits] | None = None
        self._plan_options: dict[str, Any] = {
            "max_chunk": min(max_chunk, self.capacity - 1),  # the last place is for a further call
            "capacity": self.capacity,
            "allowed_lengths": chunk_lengths,
            "pad": chunk_lengths is not None,
            "oversize": "own_chunk",
            "rule": mask_rule,
            "sliding_window": sliding_window,
        }
        plan_chunks([Segment(kind="text", row=0, start=0, stop=1)], **self._plan_options)  # refuses bad lengths now

    @property
    def capacity(self) -> int:
        """Tokens that the KV state takes."""
        return self._state.capacity

    @property
    def length(self) -> int:
        """Tokens that it holds."""
        return self._state.length

    def reset(self) -> None:
        """Forget all tokens; embeddings are kept."""
        self._state.rewind(0)

    def settle(self) -> Generator[Future[None], None, None]:
        """Wait for a call that an abandoned reply has left running, whatever becomes of it."""
        if self._latest is not None and not self._latest.done():
            done: Future[None] = Future()
            self._latest.add_done_callback(lambda _: done.set_result(None))
            yield done

    def prefill(
        self, inputs: ModelInputs, prompt: PromptTokens, statistics: Statistics
    ) -> Generator[Future[Logits], Logits, Logits]:
        """Make the state hold exactly `prompt`. Yields each call as a future, and is sent its result.

        Returns:
            Logits of the last token.

        Raises:
            InputError: the prompt is longer than the state.
        """
        n_tokens = statistics.prompt_tokens = len(prompt.ids)
        if n_tokens > self.capacity:
            raise InputError(
                f"the prompt has {n_tokens} tokens; the context takes {self.capacity}; shorten it, lower "
                "max_soft_tokens or num_frames, or use a bundle with a longer context"
            )
        held = self._prompt.followed_by(self._appended, length=self.length)
        reused = statistics.reused_tokens = shared_prefix(held, prompt)
        self._state.rewind(reused)
        self._prompt, self._appended = prompt, []
        started = time.perf_counter()
        embeddings = yield from embed_media(inputs, runtime=self._runtime, cache=self._cache, first=reused)
        embedded = time.perf_counter()
        statistics.embed_s = embedded - started
        logits = np.zeros(0, np.float32)
        for chunk in plan_chunks(inputs.segments, past_length=reused, **self._plan_options):
            logits = yield self._submit_chunk(chunk, embeddings)
        statistics.prefill_s = time.perf_counter() - embedded
        return logits

    def append(self, token: int) -> Future[Logits]:
        """Add one token; its logits are those of the next."""
        self._appended.append(token)
        return self._submit("main", {"input_ids": [[token]]})

    def _submit_chunk(self, chunk: Chunk, embeddings: Embeddings) -> Future[Logits]:
        """A chunk of text goes through `main`: the rules differ for queries in vision blocks only."""
        ids = np.pad(self._prompt.ids[chunk.tokens], (0, chunk.padding))  # with any id: nobody sees it
        inputs: dict[str, Any] = {"input_ids": ids}
        if not chunk.embeddings:
            return self._submit("main", inputs, padding=chunk.padding)
        masks = chunk.masks()
        inputs |= splice(chunk, embeddings)
        inputs |= {"mask_sliding": masks.mask_sliding, "mask_global": masks.mask_global}
        return self._submit("prefill_multimodal", inputs, padding=chunk.padding)

    def _submit(self, function: str, inputs: dict[str, Any], *, padding: int = 0) -> Future[Logits]:
        self._latest = self._runtime.submit(function, inputs, state=self._state, padding=padding)
        return self._latest
