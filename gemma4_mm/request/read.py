"""A call's arguments to one `Request`: the only place that looks at what a caller passed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gemma4_mm.assets.processor_config import ProcessorConfig
from gemma4_mm.prompt.control_tokens import ControlTokens
from gemma4_mm.prompt.messages import read_conversations
from gemma4_mm.prompt.render import render_prompts
from gemma4_mm.prompt.template import ChatTemplate
from gemma4_mm.prompt.tokenizer import Tokenizer
from gemma4_mm.releases import Profile
from gemma4_mm.request.batch import Batch, collect_batch, collect_conversations
from gemma4_mm.request.options import CallOptions, resolve_options


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be encoded, checked as far as it can be without opening a medium.

    Attributes:
        batch: prompts, and the media that they show.
        options: all that a call can set, defaults filled in.
        is_batched: whether a list of conversations was given, rather than one.
    """

    batch: Batch
    options: CallOptions
    is_batched: bool


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """How conversations become prompts; arguments of `Processor.encode` under the same names.

    Attributes:
        template: the chat template.
        tools: JSON schemas of functions.
        documents: documents for templates that show them.
        add_generation_prompt: whether the model's turn is opened at the end.
        continue_final_message: whether the model continues the last message.
        control_tokens: what becomes of control tokens typed in messages.
        variables: of the template.
    """

    template: ChatTemplate
    tools: Any = None
    documents: Any = None
    add_generation_prompt: bool = False
    continue_final_message: bool | str = False
    control_tokens: ControlTokens = "reference"
    variables: Mapping[str, Any]


def read_prompts(
    *, text: Any, images: Any, videos: Any, audio: Any, options: Mapping[str, Any], config: ProcessorConfig
) -> Request:
    """Read prompts that hold placeholders, and their media.

    Raises:
        InputError: arguments that the reference would refuse.
    """
    batch = collect_batch(text=text, images=images, videos=videos, audio=audio)
    return Request(batch=batch, options=resolve_options(options, config=config), is_batched=True)


def read_messages(
    conversation: Any,
    *,
    rendering: Rendering,
    options: Mapping[str, Any],
    collect_media: bool = True,
    tokenizer: Tokenizer,
    profile: Profile,
    config: ProcessorConfig,
) -> Request:
    """Read one conversation or a list of them, render the prompts, and sort the media under them.

    Raises:
        InputError: messages or arguments that the reference would refuse, or an unknown content part.
    """
    resolved = resolve_options(options, config=config)
    conversations = read_conversations(conversation, profile=profile, collect_media=collect_media)
    prompts = render_prompts(
        conversations,
        template=rendering.template,
        tokenizer=tokenizer,
        tools=rendering.tools,
        documents=rendering.documents,
        add_generation_prompt=rendering.add_generation_prompt,
        continue_final_message=rendering.continue_final_message,
        control_tokens=rendering.control_tokens,
        **rendering.variables,
    )
    batch = collect_conversations(conversations, prompts, marked=rendering.control_tokens == "plain")
    return Request(batch=batch, options=resolved, is_batched=conversations.is_batched)
