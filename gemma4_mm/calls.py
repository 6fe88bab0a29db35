"""Hugging Face's signatures, as thin shims over a processor's own: what people wrote for `AutoProcessor` runs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, overload

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.errors import InputError
from gemma4_mm.inputs import ModelInputs
from gemma4_mm.prompt.control_tokens import ControlTokens, resolve_control_tokens
from gemma4_mm.prompt.template import ChatTemplate
from gemma4_mm.request.read import Rendering, Request

_RENDERING: Final = (
    "tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
)


class HuggingFaceCalls(ABC):
    """`processor(…)` and `processor.apply_chat_template(…)` in Hugging Face's words."""

    @abstractmethod
    def _template(self, chat_template: str | None) -> ChatTemplate: ...
    @abstractmethod
    def _read_prompts(self, *, options: Mapping[str, Any], **prompts: Any) -> Request: ...
    @abstractmethod
    def _read_messages(
        self, conversation: Any, rendering: Rendering, options: Mapping[str, Any], *, collect_media: bool = True
    ) -> Request: ...
    @abstractmethod
    def _encode(self, request: Request) -> ModelInputs: ...

    def __call__(
        self, images: Any = None, text: Any = None, videos: Any = None, audio: Any = None, **kwargs: Any
    ) -> ModelInputs:
        """Encode prompts that hold placeholders: `encode_prompts` under Hugging Face's signature.

        Args:
            images: see `encode_prompts`, as all that follow.
            text: prompts.
            videos: in order of appearance.
            audio: in order of appearance.
            kwargs: see `EncodeOptions`; and what is fixed here, with its one value, such as `return_tensors="np"`.

        Raises:
            InputError: arguments, placeholders or array contents that the reference would refuse.
            MediaError: a file that cannot be decoded.
            LimitError: a medium over `limits`.
        """
        return self._encode(self._read_prompts(text=text, images=images, videos=videos, audio=audio, options=kwargs))

    @overload
    def apply_chat_template(
        self, conversation: Any, *, tokenize: Literal[True], return_dict: Literal[True], **kwargs: Any
    ) -> ModelInputs: ...
    @overload
    def apply_chat_template(
        self, conversation: Any, *, tokenize: Literal[True], return_dict: Literal[False] = ..., **kwargs: Any
    ) -> NDArray[np.int64]: ...
    @overload
    def apply_chat_template(
        self, conversation: Any, *, tokenize: Literal[False] = ..., return_dict: bool = ..., **kwargs: Any
    ) -> str | list[str]: ...
    @overload
    def apply_chat_template(
        self, conversation: Any, *arguments: Any, **kwargs: Any
    ) -> ModelInputs | NDArray[np.int64] | str | list[str]: ...
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
    ) -> ModelInputs | NDArray[np.int64] | str | list[str]:
        """Render one conversation or a list of them, and encode it with its media.

        Args:
            conversation: see `encode`, as all that are not described here.
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
            control_tokens: see `encode`; None for "reference".
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
        rendering = {
            "tools": tools,
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": continue_final_message,
            "control_tokens": choice,
        }
        request = self._read_call(
            conversation,
            {**kwargs, **rendering, "chat_template": chat_template, "processor_kwargs": processor_kwargs},
            collect_media=tokenize,
        )
        if not tokenize:
            return list(request.batch.texts) if request.is_batched else request.batch.texts[0]
        inputs = self._encode(request)
        return inputs if return_dict else inputs["input_ids"]

    def _read_call(self, conversation: Any, kwargs: Mapping[str, Any], *, collect_media: bool = True) -> Request:
        """Part flat arguments as Hugging Face does: what the template names is its variable, the rest are options."""
        kwargs = dict(kwargs)
        template = self._template(kwargs.pop("chat_template", None))
        options = dict(kwargs.pop("processor_kwargs", None) or {})
        variables = dict(kwargs.pop("template_variables", None) or {})
        rendering = {name: kwargs.pop(name) for name in _RENDERING if name in kwargs}
        choice = resolve_control_tokens(
            kwargs.pop("control_tokens", None), sanitize_control_tokens=kwargs.pop("sanitize_control_tokens", False)
        )
        for name, value in kwargs.items():
            (variables if name in template.variables else options)[name] = value
        return self._read_messages(
            conversation,
            Rendering(template=template, variables=variables, control_tokens=choice, **rendering),
            options,
            collect_media=collect_media,
        )
