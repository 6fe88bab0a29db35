"""From messages to a reply: a conversation on a bundle, streamed, sync or async."""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from gemma4_mm.coreai.bundle.bundle import Bundle
from gemma4_mm.coreai.bundle.bundle_processor import bundle_processor
from gemma4_mm.coreai.bundle.schema import check_bundle
from gemma4_mm.coreai.run.prefix import PromptTokens
from gemma4_mm.coreai.run.reply import GenerationOptions, Reply
from gemma4_mm.coreai.run.runtime import Runtime
from gemma4_mm.coreai.run.sampling import Sampler, Sampling
from gemma4_mm.coreai.run.sequence import Logits, TokenSequence
from gemma4_mm.coreai.run.streams import AsyncReplyStream, ReplyStream, Step, Steps
from gemma4_mm.errors import InputError
from gemma4_mm.inputs import ModelInputs
from gemma4_mm.processor import Processor
from gemma4_mm.prompt.stream import TextStream
from gemma4_mm.spec import MaskRule

__all__ = ["GenerationOptions", "Reply", "Sampling", "Session"]

_DEFAULT: Final = GenerationOptions()
_FIXED: Final = frozenset({"tokenize", "return_dict", "conversation"})  # of apply_chat_template
_MAX_CHUNK: Final = 512
_CACHE_BYTES: Final = 256 << 20  # some 60 images of 280 soft tokens at the 12B model's width


class Session:
    """A conversation: one KV state, and the prefix of it that the next prompt shares.

        with Session.open("bundle") as session:
            for piece in session.stream(messages):
                print(piece, end="", flush=True)

    Each call takes the whole conversation. What the state still holds of it is not computed again; a changed image
    is, from its first token on. One reply at a time; sessions on one `Runtime` share nothing else and may run at once.

    Args:
        runtime: an open bundle, which the session does not close.
        processor: messages to tensors; None for the bundle's own, see `bundle_processor`.
        mask_rule: attention rule of vision blocks; None for the bundle's.
        max_chunk: most tokens of one prefill call. No vision block is cut: a longer one is a call by itself.
        chunk_lengths: lengths that prefill calls are padded to, where each length costs a compilation; None for any.
        context_length: rows of the KV states, where the asset leaves them open; None for the bundle's.
        cache_bytes: bound on media embeddings that are kept for further turns.

    Attributes:
        runtime: as given.
        processor: as given, or the bundle's.
        mask_rule: the rule in use.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        processor: Processor | None = None,
        mask_rule: MaskRule | None = None,
        max_chunk: int = _MAX_CHUNK,
        chunk_lengths: Sequence[int] | None = None,
        context_length: int | None = None,
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        constants = runtime.bundle.constants
        self.runtime = runtime
        self.processor = processor or bundle_processor(runtime.bundle)
        self.mask_rule: MaskRule = mask_rule or constants.mask_rule
        self._constants = constants
        self._sequence = TokenSequence(
            runtime,
            mask_rule=self.mask_rule,
            sliding_window=constants.sliding_window,
            max_chunk=max_chunk,
            chunk_lengths=chunk_lengths,
            rows=context_length or (runtime.bundle.max_context if runtime.has_open_context else None),
            cache_bytes=cache_bytes,
        )
        self._lock = threading.Lock()
        self._close: Callable[[], None] = lambda: None

    @classmethod
    def open(
        cls, bundle: Bundle | Path | str, *, verify: bool = True, processor: Processor | None = None, **options: Any
    ) -> Self:
        """Load a bundle and begin a conversation; closing the session closes both.

        Args:
            bundle: a bundle, or the path of its directory.
            verify: as in `Runtime.open`.
            processor: as for `Session`.
            options: the others of `Session`.

        Raises:
            AssetError: the bundle is incomplete or damaged.
            MissingDependencyError: `coreai-core` is not installed.
        """
        bundle = bundle if isinstance(bundle, Bundle) else Bundle.read(bundle)
        check_bundle(bundle)
        processor = processor or bundle_processor(bundle)  # before the model, which takes longer to load
        runtime = Runtime.open(bundle, verify=verify)
        try:
            session = cls(runtime, processor=processor, **options)
        except BaseException:
            runtime.close()
            raise
        session._close = runtime.close
        return session

    def stream(self, messages: Any, options: GenerationOptions = _DEFAULT, **template: Any) -> ReplyStream:
        """Write a reply piece by piece; nothing is done before the first piece is asked for.

        Args:
            messages: the whole conversation, in Hugging Face's or OpenAI's form, media included; or `ModelInputs` of
                one prompt that was encoded elsewhere.
            options: how.
            template: further arguments of `Processor.apply_chat_template`, such as `enable_thinking=True`,
                `tools=[…]`, `max_soft_tokens=560`.

        Raises (at the first piece):
            InputError: messages or arguments that the processor refuses, a prompt longer than the context, or another
                reply of this session that is not done.
            MediaError: a file that cannot be decoded.
            LimitError: a medium over the limits.
            AssetError: the bundle lacks a function or a template that is needed.
            ExecutionError: the runtime failed.
        """
        reply = Reply()
        return ReplyStream(self._steps(messages, options, template, reply), reply)

    def stream_async(self, messages: Any, options: GenerationOptions = _DEFAULT, **template: Any) -> AsyncReplyStream:
        """As `stream`, for `async for`."""
        reply = Reply()
        return AsyncReplyStream(self._steps(messages, options, template, reply), reply)

    def generate(self, messages: Any, options: GenerationOptions = _DEFAULT, **template: Any) -> Reply:
        """Write a whole reply; arguments and errors are those of `stream`."""
        stream = self.stream(messages, options, **template)
        for _ in stream:
            pass
        return stream.reply

    async def generate_async(self, messages: Any, options: GenerationOptions = _DEFAULT, **template: Any) -> Reply:
        """As `generate`, without blocking the caller's loop."""
        stream = self.stream_async(messages, options, **template)
        async for _ in stream:
            pass
        return stream.reply

    def reset(self) -> None:
        """Forget the conversation; embeddings of its media are kept.

        Raises:
            InputError: a reply is not done.
        """
        with self._claim():
            for running in self._sequence.settle():
                running.result()
            self._sequence.reset()

    def close(self) -> None:
        """Close the runtime too, if `open` opened it."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _steps(self, messages: Any, options: GenerationOptions, template: dict[str, Any], reply: Reply) -> Steps:
        with self._claim():
            started = time.perf_counter()
            yield from self._sequence.settle()
            inputs, prompt = yield partial(self._encode, messages, template)
            reply.statistics.encode_s = time.perf_counter() - started
            sampler = self._sampler(options, prompt)  # refuses options before the prompt costs time
            logits = yield from self._sequence.prefill(inputs, prompt, reply.statistics)
            yield from self._decode(logits, sampler, options, reply, started=started)

    def _sampler(self, options: GenerationOptions, prompt: PromptTokens) -> Sampler:
        suppressed = self._constants.suppressed_ids if options.suppressed_ids is None else options.suppressed_ids
        return Sampler(options, vocabulary=self.runtime.vocabulary, prompt_ids=prompt.ids, suppressed_ids=suppressed)

    def _decode(
        self, logits: Logits, sampler: Sampler, options: GenerationOptions, reply: Reply, *, started: float
    ) -> Generator[Step, Any, None]:
        stop_ids = frozenset(self._constants.stop_ids if options.stop_ids is None else options.stop_ids)
        text = TextStream(self.processor.tokenizer, skip_special_tokens=options.skip_special_tokens)
        ids, statistics = reply.ids, reply.statistics
        first_at = 0.0
        while reply.finish_reason is None:
            if options.logits_processor is not None:
                logits = options.logits_processor(ids, logits)
            ids.append(token := sampler.choose(logits))
            statistics.generated_tokens += 1
            now = time.perf_counter()
            first_at = first_at or now
            statistics.decode_s = now - first_at
            statistics.time_to_first_token_s = statistics.time_to_first_token_s or now - started
            if token in stop_ids:
                reply.finish_reason = "stop"
            elif len(ids) == options.max_tokens:
                reply.finish_reason = "length"
            elif self._sequence.length == self._sequence.capacity:
                reply.finish_reason = "context"
            piece = "" if reply.finish_reason == "stop" else text.push(token)
            if reply.finish_reason:
                piece += text.flush()
            if piece:
                reply.pieces.append(piece)
                asked = time.perf_counter()
                yield piece
                first_at += time.perf_counter() - asked  # the caller's time
            if reply.finish_reason is None:
                logits = yield self._sequence.append(token)

    def _encode(self, messages: Any, template: dict[str, Any]) -> tuple[ModelInputs, PromptTokens]:
        if isinstance(messages, ModelInputs):
            if template:
                raise InputError(f"the prompt is encoded already; {', '.join(template)} cannot change it: leave it out")
            inputs = messages
        else:
            arguments = {"add_generation_prompt": not template.get("continue_final_message"), **template}
            for name in _FIXED & arguments.keys():
                raise InputError(f"{name} is set by the session; leave it out")
            inputs = self.processor.apply_chat_template(messages, tokenize=True, return_dict=True, **arguments)
        prompt = PromptTokens.from_inputs(inputs)
        for name in ("pixel_values", "pixel_values_videos"):
            budget = inputs[name].shape[-2] if name in inputs else None
            if budget is not None and budget not in self._constants.soft_token_budgets:
                raise InputError(
                    f"{name} was prepared for {budget} soft tokens; the bundle knows "
                    f"{', '.join(map(str, self._constants.soft_token_budgets))}; pass one as max_soft_tokens"
                )
        return inputs, prompt

    @contextmanager
    def _claim(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise InputError(
                "the session is writing another reply; read that to its end, close() its stream, or open a second "
                "Session on the same Runtime"
            )
        try:
            yield
        finally:
            self._lock.release()
