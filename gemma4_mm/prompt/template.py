"""Rendering a chat template, in the sandbox and with exactly the text that transformers renders.

Source: transformers 5.24 `render_jinja_template`.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from gemma4_mm.errors import AssetError, InputError, LimitError, plain_text, shown
from gemma4_mm.optional import require
from gemma4_mm.prompt.control_tokens import TokenMarks, without_foreign
from gemma4_mm.prompt.plain import bounded_nesting, to_plain

# Names under which a message carries its reasoning; the first is the standard one that templates read
_REASONING_FIELDS: Final = ("reasoning_content", "thinking", "reasoning")
# Written where the final message ends, and found again in the text; the space shows whether the template trimmed there.
# The reference's own word: a conversation that holds it is cut at the same place.
_END_MARK: Final = "CONTINUE_FINAL_MESSAGE_TAG "
_REASON_CHARS: Final = 1000


class ChatTemplate:
    """A chat template; compiled at its first use, and once per source and process.

    Args:
        source: Jinja source, such as the content of `chat_template.jinja`.
    """

    def __init__(self, source: str) -> None:
        self.source = source

    @cached_property
    def variables(self) -> frozenset[str]:
        """Names that the template reads and does not set, such as `enable_thinking`: what callers may pass to it.

        Raises:
            AssetError: the source is not a valid template.
        """
        self._compiled  # noqa: B018 (raises where the source is not valid)
        return frozenset(_sandbox().undeclared_variables(self.source))

    @cached_property
    def literal_text(self) -> str:
        """All text that the template itself can write; control tokens in it are the template's own.

        Raises:
            AssetError: the source is not a valid template.
        """
        self._compiled  # noqa: B018
        return str(_sandbox().literal_text(self.source))

    @bounded_nesting()
    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool | str = False,
        special_tokens: Mapping[str, str] | None = None,
        marks: TokenMarks | None = None,
        **variables: Any,
    ) -> str:
        """Render one conversation.

        Args:
            messages: template-ready messages, see `prompt.messages`. They are copied, never changed.
            tools: JSON schemas of the functions that the model may call.
            documents: dicts of documents, for templates that show some.
            add_generation_prompt: whether to open the model's turn at the end.
            continue_final_message: whether to leave the last message open, so that the model continues it; a string
                names the field to continue, such as "reasoning_content".
            special_tokens: `bos_token` and its like; `variables` of the same name win.
            marks: given, the text is a settled one, in which control tokens of the template and those of the arguments
                are told apart; see `prompt.control_tokens`. `special_tokens` count as the template's.
            variables: further template variables, such as `enable_thinking=True`.

        Raises:
            InputError: the template refuses the messages or fails on them, a tool or document is not a dict, or the
                final message cannot be continued.
            LimitError: the template makes a longer text, or takes more steps, than `prompt.budget` allows.
            AssetError: the source is not a valid template.
        """
        if continue_final_message and add_generation_prompt:
            raise InputError(
                "add_generation_prompt and continue_final_message were both set; the one opens a new turn, the other "
                "keeps the last one open: set one of them"
            )
        _check_dicts("tool", tools, hint="pass its JSON schema (transformers.utils.get_json_schema makes one)")
        _check_dicts("document", documents, hint="pass a dict, such as {'title': …, 'text': …}")
        given = to_plain if marks is None else _without_marks
        own = {name: token if marks is None else marks.mark(token) for name, token in (special_tokens or {}).items()}
        chat = [_with_reasoning(message) for message in given(list(messages))]
        final_text = self._mark_end(chat, continue_final_message) if continue_final_message else None
        text = self._render(
            {
                **own,
                **given(variables),
                "messages": chat,
                "tools": given(tools),
                "documents": given(documents),
                "add_generation_prompt": add_generation_prompt,
            },
            marks,
        )
        text = text if final_text is None else _cut_at_mark(text, final_text)
        return text if marks is None else marks.settle(text)

    @property
    def _compiled(self) -> Any:
        return self._compile(None)

    def _compile(self, marks: TokenMarks | None) -> Any:
        sandbox = _sandbox()
        try:
            return sandbox.compile_template(self.source, () if marks is None else marks.tokens)
        except LimitError:
            raise
        except Exception as error:  # Jinja and Python's compiler raise whatever they like on a stranger's source
            raise AssetError(
                f"the chat template is not valid Jinja: {_reason(error, marks)}; use the chat_template.jinja of "
                "google/gemma-4-12B-it"
            ) from error

    def _render(self, variables: Mapping[str, Any], marks: TokenMarks | None) -> str:
        compiled = self._compile(marks)
        try:
            return str(_sandbox().render(compiled, variables))
        except LimitError:
            raise
        except Exception as error:  # as above: a template can fail by any of Python's errors
            raise InputError(
                f"the chat template refused the messages: {_reason(error, marks)}; check roles, tool calls and the "
                "fields it names"
            ) from error

    def _mark_end(self, chat: list[dict[str, Any]], wanted: bool | str) -> str:
        """Write the mark at the end of the last message, in place; returns the text that it closes."""
        field = wanted if isinstance(wanted, str) else "content"
        final = chat[-1].get(field) if chat else None
        if final is None:
            raise InputError(f"continue_final_message is set, but the last message has no {shown(field)} to continue")
        copies = [field]
        if field in _REASONING_FIELDS:  # held under several names; the template reads whichever it likes
            copies = [name for name in _REASONING_FIELDS if chat[-1].get(name) == final]
        if not any(name in self.source for name in copies):
            raise InputError(f"continue_final_message is {shown(field)}, a field that this chat template does not read")
        places = [(chat[-1], name) for name in copies]
        if isinstance(final, list | tuple):
            places = [(part, "text") for part in final if isinstance(part, dict) and "text" in part][-1:]
        if not places or not all(isinstance(holder[key], str) for holder, key in places):
            raise InputError("continue_final_message is set, but the last message holds no text to continue")
        text = str(places[0][0][places[0][1]])
        for holder, key in places:
            holder[key] = text + _END_MARK
        return text


def _without_marks(value: Any) -> Any:
    return without_foreign(to_plain(value))


def _reason(error: Exception, marks: TokenMarks | None) -> str:
    text = str(error)[:_REASON_CHARS] or type(error).__name__
    return plain_text(text if marks is None else marks.unmark(text))


def _sandbox() -> Any:
    require("jinja2")
    return require("gemma4_mm.prompt.sandbox")


def _check_dicts(what: str, items: Any, *, hint: str) -> None:
    try:
        entries = () if items is None else tuple(items)
    except TypeError:
        raise InputError(f"{what}s are {type(items).__name__}, not a list; {hint}") from None
    for index, item in enumerate(entries):
        if not isinstance(item, dict):
            raise InputError(f"{what} {index} is {type(item).__name__}, not a dict; {hint}")


def _with_reasoning(message: Any) -> dict[str, Any]:
    """Give a message's reasoning its standard name, and the name that gpt-oss templates read."""
    if not isinstance(message, dict):
        raise InputError(f"a message is {type(message).__name__}, not a dict; write {{'role': …, 'content': …}}")
    reasoning = next((message[name] for name in _REASONING_FIELDS if message.get(name) is not None), None)
    if reasoning is None:
        return message
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _cut_at_mark(text: str, final_text: str) -> str:
    """Cut the rendered text where the final message ends."""
    mark = _END_MARK.strip()
    if final_text.strip() not in text or mark not in text:
        raise InputError(
            "continue_final_message is set, but the chat template does not write the last message as it was given; "
            "leave out what it removes (such as a thinking channel), or do not continue this message"
        )
    start = text.rindex(mark)
    untouched = text[start : start + len(_END_MARK)] == _END_MARK
    return text[:start] if untouched else text[:start].rstrip()  # a template that trims cuts the mark's space too
