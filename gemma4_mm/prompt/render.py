"""Read conversations to prompts: typed control tokens refused or told apart from the template's, which then renders."""

from collections.abc import Mapping, Sequence
from typing import Any

from gemma4_mm.errors import InputError, plain_text
from gemma4_mm.prompt.control_tokens import ControlTokens, resolve_control_tokens, typed_token, without_joints
from gemma4_mm.prompt.messages import ConversationBatch
from gemma4_mm.prompt.plain import bounded_nesting
from gemma4_mm.prompt.template import ChatTemplate
from gemma4_mm.prompt.tokenizer import Tokenizer
from gemma4_mm.prompt.typed import check_typed, check_typed_in_messages


@bounded_nesting()
def render_prompts(
    batch: ConversationBatch,
    *,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    tools: Sequence[Mapping[str, Any]] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = False,
    continue_final_message: bool | str = False,
    control_tokens: ControlTokens | None = None,
    sanitize_control_tokens: bool = False,
    **variables: Any,
) -> tuple[str, ...]:
    """Render each conversation of a batch.

    Source: transformers 5.24 `ProcessorMixin.apply_chat_template`.

    Args:
        batch: what `read_conversations` read.
        template: the chat template.
        tokenizer: names the special and the control tokens.
        tools: JSON schemas of functions.
        documents: dicts of documents.
        add_generation_prompt: whether to open the model's turn at the end.
        continue_final_message: whether, or in which field, the model continues the last message.
        control_tokens: what becomes of a control token that stands in messages, tools, documents or variables:
            "reference": its control id, as in HF, but a media placeholder is an error; "plain": plain text, and the
            prompts are settled ones, for `Tokenizer.encode_marked`; "error": an error. None for "reference".
        sanitize_control_tokens: HF's name for `control_tokens="plain"`.
        variables: further template variables.

    Returns:
        One prompt per conversation.

    Raises:
        InputError: a typed placeholder or, with "error", control token, or what the template refuses; see
            `ChatTemplate.render`.
    """
    choice = resolve_control_tokens(control_tokens, sanitize_control_tokens=sanitize_control_tokens)
    marks = None if choice == "reference" else tokenizer.marks(template.literal_text)
    if choice != "plain":
        refused = None if marks is None else marks.tokens
        check_typed_in_messages(batch, tokens=refused)
        for name, value in {"tools": tools, "documents": documents, **variables}.items():
            check_typed(value, where=plain_text(name), tokens=refused)
    prompts = []
    for conversation in batch.conversations:
        text = template.render(
            conversation.messages,
            tools=tools,
            documents=documents,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            special_tokens=tokenizer.special_tokens_map,
            marks=marks,
            **variables,
        )
        if choice == "error":
            token = typed_token(text)
            if token is not None:
                raise InputError(
                    f"the messages join to the control token {token}; take it out, or pass control_tokens='plain' to "
                    "have it read as plain text"
                )
            text = without_joints(text)
        prompts.append(text)
    return tuple(prompts)
