"""`Processor`: messages and media to `ModelInputs`, the one way that everything else goes.

read (arguments to a `Request`) → open (each medium measured from its header) → lay out (tokens, segments, places:
`plan` ends here) → write (each medium decoded once, into its place).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from typing import Any, Self, Unpack

from numpy.typing import ArrayLike, NDArray

from gemma4_mm.assets.find import Assets, find_assets, find_or_fetch_assets
from gemma4_mm.assets.pinned import PinnedAssets, stamps_of
from gemma4_mm.assets.processor_config import ProcessorConfig
from gemma4_mm.cache import MediaCache
from gemma4_mm.calls import HuggingFaceCalls
from gemma4_mm.core.outputs import resolve_outputs
from gemma4_mm.core.tokens.segments import check_segments
from gemma4_mm.encode.access import Access
from gemma4_mm.encode.audio import AudioStream, stream_audio
from gemma4_mm.encode.media import OpenedMedia, open_media, write_media
from gemma4_mm.encode.videos import VideoStream, stream_video
from gemma4_mm.errors import AssetError, InputError
from gemma4_mm.execution import DEFAULT_EXECUTION, Execution
from gemma4_mm.inputs import ModelInputs
from gemma4_mm.layout import Plan, check_placeholders, lay_out
from gemma4_mm.limits import Limits
from gemma4_mm.prompt.control_tokens import ControlTokens, resolve_control_tokens
from gemma4_mm.prompt.template import ChatTemplate
from gemma4_mm.prompt.tokenizer import Tokenizer
from gemma4_mm.releases import DEFAULT_PROFILE, Profile
from gemma4_mm.request.options import EncodeOptions, resolve_options
from gemma4_mm.request.read import Rendering, Request, read_messages, read_prompts


class Processor(HuggingFaceCalls):
    """Gemma 4 12B's preprocessing: a drop-in for the calls that people make on Hugging Face's `AutoProcessor`.

    Build it with `from_pretrained`. Calls do not change it, so threads may share it. Pickled, it is the paths and
    SHA-256 of its files and its settings, about a kilobyte; where it is unpickled, the files must be at the same paths.

    Attributes:
        tokenizer: text to ids and back.
        config: budgets and frame count.
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
        self.config = config or ProcessorConfig.from_json(assets.read_processor_config(), profile=profile)
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

    def encode(
        self,
        conversation: Any,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool | str = False,
        control_tokens: ControlTokens = "reference",
        chat_template: str | None = None,
        template_variables: Mapping[str, Any] | None = None,
        **options: Unpack[EncodeOptions],
    ) -> ModelInputs:
        """Encode one conversation, or a list of them, with its media.

        Args:
            conversation: messages in Hugging Face's or OpenAI's form; see `prompt.messages`.
            tools: JSON schemas of the functions that the model may call.
            documents: documents for templates that show them.
            add_generation_prompt: whether to open the model's turn at the end.
            continue_final_message: whether the model continues the last message.
            control_tokens: what becomes of a control token typed anywhere in the arguments: "reference" is its control
                id, as in Hugging Face, but a media placeholder is an error; "plain" is plain text; "error" is an error.
            chat_template: another Jinja template than the model's own.
            template_variables: such as `{"enable_thinking": True}`.
            options: see `EncodeOptions`.

        Raises:
            InputError: messages or arguments that the reference would refuse, or an unknown content part.
            MediaError: a file that cannot be decoded.
            LimitError: a medium over `limits`.
        """
        rendering = Rendering(
            template=self._template(chat_template),
            tools=tools,
            documents=documents,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            control_tokens=resolve_control_tokens(control_tokens),
            variables=template_variables or {},
        )
        return self._encode(self._read_messages(conversation, rendering, options))

    def encode_prompts(
        self,
        text: str | Sequence[str] | None = None,
        *,
        images: Any = None,
        videos: Any = None,
        audio: Any = None,
        **options: Unpack[EncodeOptions],
    ) -> ModelInputs:
        """Encode prompts that hold `<|image|>`, `<|video|>` and `<|audio|>` where media stand.

        Args:
            text: a prompt or a list of them; None for bare placeholders, one prompt per list of images.
            images: an image, a list of them for one prompt, or a list per prompt. Paths, bytes, file objects, `data:`
                URIs, PIL images and uint8 arrays.
            videos: videos in order of appearance: files as above, uint8 arrays `(frames, height, width, 3)`, lists of
                frames.
            audio: audios in order of appearance: files as above, float arrays of 16 kHz mono samples.
            options: see `EncodeOptions`.

        Raises:
            InputError: arguments, placeholders or array contents that the reference would refuse.
            MediaError: a file that cannot be decoded.
            LimitError: a medium over `limits`.
        """
        return self._encode(self._read_prompts(text=text, images=images, videos=videos, audio=audio, options=options))

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

        Takes the arguments of `encode` or `apply_chat_template` after a conversation, else those of `encode_prompts`.
        It is the first half of the call itself, so it refuses what the call refuses before it decodes. Media files are
        asked for their headers only, but for MPEG audio without a length, which is counted; in place of a medium, its
        size will do: `ImageSize`, `AudioLength`, `VideoSize`. The cache is not asked.

        Raises:
            InputError: as the call itself.
            MediaError: a file without a readable header.
            LimitError: a medium over `limits`.
        """
        if conversation is None:
            request = self._read_prompts(text=text, images=images, videos=videos, audio=audio, options=kwargs)
        else:
            if not (text is images is videos is audio is None):
                raise InputError(
                    "plan takes a conversation, or text and media; the media of a conversation stand in it"
                )
            request = self._read_call(conversation, kwargs)
        return self._lay_out(request, replace(self._access, cache=None)).plan

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

    def _template(self, chat_template: str | None) -> ChatTemplate:
        return self.chat_template if chat_template is None else ChatTemplate(chat_template)

    def _read_prompts(self, *, options: Mapping[str, Any], **prompts: Any) -> Request:
        return read_prompts(**prompts, options=options, config=self.config)

    def _read_messages(
        self, conversation: Any, rendering: Rendering, options: Mapping[str, Any], *, collect_media: bool = True
    ) -> Request:
        return read_messages(
            conversation,
            rendering=rendering,
            options=options,
            collect_media=collect_media,
            tokenizer=self.tokenizer,
            profile=self.profile,
            config=self.config,
        )

    def _lay_out(self, request: Request, access: Access) -> "_LaidOut":
        """Open all media and lay the tokens out: `plan` ends here, and nothing is decoded yet."""
        check_placeholders(request.batch)
        media = open_media(request.batch, request.options, access)
        encode = self.tokenizer.encode_marked if request.batch.marked else self.tokenizer.encode
        plan = lay_out(
            request.batch.texts,
            media.plan,
            encode=encode,
            tokens=self.tokenizer.token_ids,
            length=request.options.text,
        )
        return _LaidOut(media=media, plan=plan)

    def _encode(self, request: Request) -> ModelInputs:
        access = self._access
        laid_out = self._lay_out(request, access)
        written = write_media(laid_out.media, request.options, access)
        plan = laid_out.plan
        check_segments(plan.segments, mm_token_type_ids=plan.mm_token_type_ids, valid_rows=written.valid_rows)
        text = {
            "input_ids": plan.input_ids,
            "attention_mask": plan.attention_mask,
            "mm_token_type_ids": plan.mm_token_type_ids,
        }
        return ModelInputs({**text, **written.tensors}, segments=plan.segments, profile=self.profile.name)


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
class _LaidOut:
    media: OpenedMedia
    plan: Plan
