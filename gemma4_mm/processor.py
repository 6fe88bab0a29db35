"""`Processor`: messages and media to `ModelInputs`, the one path that everything else calls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import Any, Final, Literal, Self

from numpy.typing import ArrayLike, NDArray

from gemma4_mm.assets.find import Assets, find_assets, find_or_fetch_assets
from gemma4_mm.assets.pinned import PinnedAssets, stamps_of
from gemma4_mm.batch import Batch, collect_batch, collect_conversations
from gemma4_mm.cache import MediaCache
from gemma4_mm.core.outputs import resolve_outputs
from gemma4_mm.core.tokens.segments import check_segments
from gemma4_mm.encode import encode_media, measure_media
from gemma4_mm.encode.access import Access
from gemma4_mm.encode.audio import AudioStream, stream_audio
from gemma4_mm.encode.videos import VideoStream, stream_video
from gemma4_mm.errors import AssetError, InputError
from gemma4_mm.execution import DEFAULT_EXECUTION, Execution
from gemma4_mm.inputs import ModelInputs
from gemma4_mm.layout import MediaPlan, Plan, check_placeholders, lay_out
from gemma4_mm.limits import Limits
from gemma4_mm.options import CallOptions, resolve_options
from gemma4_mm.prompt.control_tokens import ControlTokens, resolve_control_tokens
from gemma4_mm.prompt.messages import read_conversations
from gemma4_mm.prompt.render import render_prompts
from gemma4_mm.prompt.template import ChatTemplate
from gemma4_mm.prompt.tokenizer import Tokenizer
from gemma4_mm.spec import DEFAULT_PROFILE, ProcessorConfig, Profile

_RENDERING: Final = ("tools", "documents", "add_generation_prompt", "continue_final_message")


class Processor:
    """Gemma 4 12B's preprocessing: a drop-in for the calls that people make on Hugging Face's `AutoProcessor`.

    Build it with `from_pretrained`. Calls do not change it, so threads may share it. Pickled, it is the paths and
    SHA-256 of its files and its settings, about a kilobyte; where it is unpickled, the files must be at the same paths.

    Attributes:
        tokenizer: text to ids and back.
        config: budgets, frame count and rates.
        profile: which reference behaviour is reproduced.
        limits: what one media item may cost.
        allow_network: whether media may be named by http(s) URL.
        cache: of encoded media; None for none.
        execution: kernel and threads; no choice changes a bit of the tensors.
    """

    def __init__(
        self,
        assets: Assets,
        *,
        config: ProcessorConfig | None = None,
        profile: Profile = DEFAULT_PROFILE,
        limits: Limits | None = None,
        allow_network: bool = False,
        cache: MediaCache | None = None,
        execution: Execution = DEFAULT_EXECUTION,
    ) -> None:
        self._assets = assets
        self._stamps = stamps_of(assets)
        self.tokenizer = Tokenizer(assets.tokenizer, config=assets.read_tokenizer_config())
        self.config = config or ProcessorConfig.from_json(assets.read_processor_config())
        self.profile = profile
        self.limits = limits or Limits()
        self.allow_network = allow_network
        self.cache = cache
        self.execution = execution

    @classmethod
    def from_pretrained(
        cls,
        path: str | PathLike[str] | None = None,
        *,
        profile: Profile = DEFAULT_PROFILE,
        limits: Limits | None = None,
        allow_network: bool = False,
        cache: MediaCache | None = None,
        execution: Execution = DEFAULT_EXECUTION,
        local_files_only: bool = False,
        progress: Callable[[str], None] = lambda _message: None,
    ) -> Self:
        """Load tokenizer, chat template and configuration.

        Args:
            path: a folder that holds them, a Core AI bundle, or a hub id; None for google/gemma-4-12B-it's, which are
                fetched into the user's cache at the first call.
            profile: the reference behaviour; see `Profile.transformers`.
            limits: bounds on each media item; None for the defaults.
            allow_network: whether calls may fetch media by http(s) URL.
            cache: keeps encoded media, so that an item seen before is not encoded again; None for none.
            execution: kernel and threads, e.g. `Execution(kernel="numba", threads=2)`.
            local_files_only: whether a missing file is an error instead of a download.
            progress: told about each step of a download.

        Raises:
            AssetError: a file is missing, damaged, or could not be fetched.
        """
        assets = find_assets(path) if local_files_only else find_or_fetch_assets(path, progress=progress)
        return cls(
            assets, profile=profile, limits=limits, allow_network=allow_network, cache=cache, execution=execution
        )

    def __reduce__(self) -> tuple[Any, ...]:
        if stamps_of(self._assets) != self._stamps:
            raise AssetError(
                f"the files in {self._assets.tokenizer.parent} changed after this Processor read them, so they cannot "
                "stand for it in a pickle; build it anew with from_pretrained"
            )
        settings = {
            "config": self.config,
            "profile": self.profile,
            "limits": self.limits,
            "allow_network": self.allow_network,
            "cache": self.cache,
            "execution": self.execution,
        }
        return build_processor, (type(self), PinnedAssets.pin(self._assets), settings)

    @cached_property
    def chat_template(self) -> ChatTemplate:
        """The model's own template, rendered in a sandbox."""
        return ChatTemplate(self._assets.read_chat_template())

    def __call__(
        self, images: Any = None, text: Any = None, videos: Any = None, audio: Any = None, **kwargs: Any
    ) -> ModelInputs:
        """Encode prompts that hold `<|image|>`, `<|video|>` and `<|audio|>` where media stand.

        Args:
            images: an image, a list of them for one prompt, or a list per prompt. Paths, bytes, file objects, `data:`
                URIs, PIL images and uint8 arrays.
            text: a prompt or a list of them; None for bare placeholders, one prompt per list of images.
            videos: videos in order of appearance: files as above, uint8 arrays `(frames, height, width, 3)`, lists of
                frames.
            audio: audios in order of appearance: files as above, float arrays of 16 kHz mono samples.
            kwargs: `max_soft_tokens`, `num_frames`, `do_sample_frames`, `video_metadata`, `padding`,
                `max_length`, `truncation`, `padding_side`, `pad_to_multiple_of`, flat or under `images_kwargs`,
                `videos_kwargs`, `audio_kwargs`, `text_kwargs`; defaults are Hugging Face's. And `dtype` ("float16",
                "bfloat16") and `out` (arrays for media tensors by name), which are this package's own; see
                `core.outputs`.

        Raises:
            InputError: arguments, placeholders or array contents that the reference would refuse.
            MediaError: a file that cannot be decoded.
            LimitError: a medium over `limits`.
        """
        batch = collect_batch(text=text, images=images, videos=videos, audio=audio)
        return self._encode(batch, resolve_options(kwargs, config=self.config))

    def apply_chat_template(
        self,
        conversation: Any,
        chat_template: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool | str = False,
        tokenize: bool = False,
        return_tensors: Literal["np", "auto"] | None = "auto",
        return_dict: bool = False,
        processor_kwargs: Mapping[str, Any] | None = None,
        sanitize_control_tokens: bool = False,
        control_tokens: ControlTokens | None = None,
        **kwargs: Any,
    ) -> Any:
        """Render one conversation or a list of them, and encode it with its media.

        Args:
            conversation: messages in Hugging Face's or OpenAI's form; see `prompt.messages`.
            chat_template: another Jinja template than the model's own.
            tools: JSON schemas of the functions that the model may call.
            documents: documents for templates that show them.
            add_generation_prompt: whether to open the model's turn at the end.
            continue_final_message: whether the model continues the last message.
            tokenize: whether to return tokens; else the rendered text.
            return_tensors: always numpy here.
            return_dict: with `tokenize`, whether to return `ModelInputs`; else `input_ids` alone.
            processor_kwargs: arguments of `__call__`, such as `{"max_soft_tokens": 560}`.
            sanitize_control_tokens: HF's name for `control_tokens="plain"`.
            control_tokens: what becomes of a control token typed anywhere in the arguments: "reference" (the default)
                is its control id, as in HF, but a media placeholder is an error; "plain" is plain text; "error" is an
                error.
            kwargs: variables of the template, such as `enable_thinking=True`; others count as `processor_kwargs`.

        Returns:
            The text, or a list of texts for a list of conversations; with `tokenize`, int64 `input_ids`
            `(batch, length)`; with `return_dict` too, `ModelInputs`.

        Raises:
            InputError: messages or arguments that the reference would refuse, or an unknown content part.
            MediaError: a file that cannot be decoded.
            LimitError: a medium over `limits`.
        """
        if return_tensors not in ("np", "auto", None):
            raise InputError(
                f"return_tensors={return_tensors!r} is not supported; wrap the arrays with torch.from_numpy"
            )
        choice = resolve_control_tokens(control_tokens, sanitize_control_tokens=sanitize_control_tokens)
        if choice == "plain" and not tokenize:
            raise InputError(
                "control_tokens='plain' (sanitize_control_tokens) needs tokenize=True: a plain string cannot tell "
                "typed tokens apart"
            )
        request = self._read(
            conversation,
            chat_template=chat_template,
            collect_media=tokenize,
            processor_kwargs=processor_kwargs or {},
            control_tokens=choice,
            rendering={
                "tools": tools,
                "documents": documents,
                "add_generation_prompt": add_generation_prompt,
                "continue_final_message": continue_final_message,
            },
            kwargs=kwargs,
        )
        if not tokenize:
            return list(request.batch.texts) if request.is_batched else request.batch.texts[0]
        inputs = self._encode(request.batch, request.options)
        return inputs if return_dict else inputs["input_ids"]

    def plan(
        self,
        conversation: Any = None,
        *,
        text: Any = None,
        images: Any = None,
        videos: Any = None,
        audio: Any = None,
        **kwargs: Any,
    ) -> Plan:
        """Lay out the tokens of a call without decoding a pixel or a sample: what `plan` says, the tensors hold.

        Takes the arguments of `apply_chat_template` after a conversation, else those of `__call__`. Media files are
        asked for their headers only; in place of a medium, its size will do: `ImageSize`, `AudioLength`, `VideoSize`.

        Raises:
            InputError: as the call itself.
            MediaError: a file without a readable header.
            LimitError: a medium over `limits`.
        """
        if conversation is None:
            batch = collect_batch(text=text, images=images, videos=videos, audio=audio)
            options = resolve_options(kwargs, config=self.config)
        else:
            if not (text is images is videos is audio is None):
                raise InputError(
                    "plan takes a conversation, or text and media; the media of a conversation stand in it"
                )
            request = self._read(
                conversation,
                chat_template=kwargs.pop("chat_template", None),
                collect_media=True,
                processor_kwargs=kwargs.pop("processor_kwargs", None) or {},
                control_tokens=resolve_control_tokens(
                    kwargs.pop("control_tokens", None),
                    sanitize_control_tokens=kwargs.pop("sanitize_control_tokens", False),
                ),
                rendering={name: kwargs.pop(name) for name in _RENDERING if name in kwargs},
                kwargs=kwargs,
            )
            batch, options = request.batch, request.options
        check_placeholders(batch)
        return self._lay_out(batch, measure_media(batch, options, self._access), options)

    def stream_video(self, video: Any, **kwargs: Any) -> VideoStream:
        """Encode one video frame by frame, at a memory that depends neither on its length nor on the frames taken.

        Iterated, it gives an `EncodedFrame` (patches, position ids, timestamp) per sampled frame, with the values that
        a call gives all at once. `stream.plan` and `plan` tell the token layout before a frame is decoded.

        Args:
            video: a file, an array or a list of frames, as in a call. A path is best: other files are read whole.
            kwargs: as of a call: `max_soft_tokens`, `num_frames`, `do_sample_frames`, `video_metadata`, `dtype`. All
                frames of a long video (`do_sample_frames=False`) may need `Limits(max_frames=…)`.

        Raises:
            InputError: arguments that a call would refuse, or `out`.
            MediaError: a file that cannot be decoded; while iterating, one that is damaged.
            LimitError: a video over `limits`.
        """
        options = resolve_options({"dtype": kwargs.pop("dtype", None), "videos_kwargs": kwargs}, config=self.config)
        return stream_video(video, options=options.video, access=self._access, outputs=options.outputs)

    def stream_audio(self, audio: Any, *, frames_per_block: int = 1500, dtype: Any = None) -> AudioStream:
        """Encode one audio block by block, at a memory that does not depend on its length.

        Iterated, it gives arrays `(frames, 640)` with the values that a call gives all at once. `stream.n_tokens` is
        known before anything is decoded.

        Args:
            audio: a file or an array of samples, as in a call. A path is best: other files are read whole.
            frames_per_block: frames of 40 ms in each block but for the last; 1500 are a minute.
            dtype: "float16" or "bfloat16"; None for float32.

        Raises:
            InputError: arguments or arrays that a call would refuse.
            MediaError: a file that cannot be decoded; while iterating, one that is damaged.
            LimitError: an audio over `limits`.
        """
        outputs = resolve_outputs(dtype=dtype)
        return stream_audio(audio, frames_per_block=frames_per_block, access=self._access, outputs=outputs)

    def decode(self, ids: ArrayLike, *, skip_special_tokens: bool = False) -> str:
        """Text of one row of token ids; see `Tokenizer.decode`."""
        return self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def batch_decode(self, rows: Sequence[ArrayLike] | NDArray[Any], *, skip_special_tokens: bool = False) -> list[str]:
        """Text of each row of token ids."""
        return self.tokenizer.batch_decode(rows, skip_special_tokens=skip_special_tokens)

    @property
    def _access(self) -> Access:
        return Access(
            profile=self.profile,
            limits=self.limits,
            allow_network=self.allow_network,
            execution=self.execution,
            cache=self.cache,
        )

    def _read(
        self,
        conversation: Any,
        *,
        chat_template: str | None,
        collect_media: bool,
        processor_kwargs: Mapping[str, Any],
        control_tokens: ControlTokens,
        rendering: Mapping[str, Any],
        kwargs: Mapping[str, Any],
    ) -> "_Request":
        """Messages to prompts and undecoded media. `kwargs` are the template's variables, the rest are call options."""
        template = self.chat_template if chat_template is None else ChatTemplate(chat_template)
        variables = {name: value for name, value in kwargs.items() if name in template.variables}
        others = {name: value for name, value in kwargs.items() if name not in variables}
        options = resolve_options({**processor_kwargs, **others}, config=self.config)
        conversations = read_conversations(conversation, profile=self.profile, collect_media=collect_media)
        prompts = render_prompts(
            conversations,
            template=template,
            tokenizer=self.tokenizer,
            control_tokens=control_tokens,
            **rendering,
            **variables,
        )
        batch = collect_conversations(conversations, prompts, marked=control_tokens == "plain")
        return _Request(batch=batch, options=options, is_batched=conversations.is_batched)

    def _encode(self, batch: Batch, options: CallOptions) -> ModelInputs:
        check_placeholders(batch)
        media = encode_media(batch, options, self._access)
        layout = self._lay_out(batch, media.plan, options)
        check_segments(layout.segments, mm_token_type_ids=layout.mm_token_type_ids, valid_rows=media.valid_rows)
        text = {
            "input_ids": layout.input_ids,
            "attention_mask": layout.attention_mask,
            "mm_token_type_ids": layout.mm_token_type_ids,
        }
        return ModelInputs({**text, **media.tensors}, segments=layout.segments, profile=self.profile.name)

    def _lay_out(self, batch: Batch, media: MediaPlan, options: CallOptions) -> Plan:
        encode = self.tokenizer.encode_marked if batch.marked else self.tokenizer.encode
        return lay_out(batch.texts, media, encode=encode, tokens=self.tokenizer.token_ids, length=options.text)


def build_processor(kind: type[Processor], pinned: PinnedAssets, settings: Mapping[str, Any]) -> Processor:
    """Build a processor from what a pickled one holds.

    Args:
        kind: `Processor` or a subclass.
        pinned: the files and what must be in them.
        settings: keyword arguments of `Processor`.

    Raises:
        AssetError: a file is missing here, or another one.
    """
    return kind(pinned.verified(), **settings)


@dataclass(frozen=True, kw_only=True)
class _Request:
    batch: Batch
    options: CallOptions
    is_batched: bool
