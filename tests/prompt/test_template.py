"""Chat templates: the environment's features against the oracle, errors, and attacks on the sandbox."""

import dataclasses
import enum
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gemma4_mm.errors import AssetError, InputError
from gemma4_mm.prompt.messages import read_conversations
from gemma4_mm.prompt.plain import to_plain
from gemma4_mm.prompt.render import render_prompts
from gemma4_mm.prompt.template import ChatTemplate
from gemma4_mm.prompt.tokenizer import Tokenizer
from tests.prompt.outcome import REFUSED, ours, reference

HELLO = [{"role": "user", "content": "Hé <b>\u2028"}]


@pytest.mark.parity
@pytest.mark.parametrize(
    "source",
    [
        "{{ messages | tojson }}",
        "{{ messages | tojson(indent=2, sort_keys=true) }}",
        "{{ messages | tojson(ensure_ascii=true, separators=(',', ':')) }}",
        "{{ messages | tojson(true) }}",
        "  {% if true %}  \n  a\n {% endif %}  \n\tb\n",
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{% break %}{% endfor %}x",
        "{% generation %}{% set x = 1 %}a{{ x }}{% endgeneration %}{{ x is defined }}",
        "{% for m in messages %}{%- generation -%} {{ m.content }} {%- endgeneration -%}{% endfor %}",
        "{% set ns = namespace(a=1, self=2) %}{% set ns.a = 3 %}{{ ns.a }}{{ ns.self }}",
        "{{ dict(a=1).a }}{{ dict.fromkeys(['x', 'y'], 0) }}{{ dict.fromkeys('z') }}",
        "{{ '<b>&' }}{{ missing }}{{ missing is defined }}",
        "{{ strftime_now('%%') }}{{ strftime_now('no directive') }}",
        "{{ documents }}{{ tools }}{{ add_generation_prompt }}{{ extra }}{{ bos_token }}",
        "{{ raise_exception('no') }}",
        "{{ missing.attribute }}",
        "{{ 1 / 0 }}",
        "{{ 1 + 'a' }}",
        "{{ [][3] }}{{ {}['a'] }}{{ 'a'.nothing }}",
        "{{ range(10 ** 9) | length }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{{ ''.__class__ }}",
        "{{ namespace(_a=1) }}",
        "{% set ns = namespace() %}{% set ns._a = 1 %}",
        "{% set ns = namespace() %}{{ ns['_Namespace__attrs'] }}",
        "{{ extra.shape }}{{ extra }}",
        "{{ messages | tojson(default=extra) }}",
        "{{ {1, 2} | tojson }}",
        "{% macro deep(n) %}{{ deep(n + 1) }}{% endmacro %}{{ deep(0) }}",
        "{% if %}",
        "{{ messages | nofilter }}",
        "{% unknown_tag %}",
        "{% generation %}never closed",
    ],
)
def test_every_feature_equals_the_oracle(source: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    variables = {"extra": np.zeros(3), "bos_token": "<s>"}
    expected = reference(lambda: render_jinja_template([HELLO], chat_template=source, **variables)[0][0])
    assert ours(lambda: ChatTemplate(source).render(HELLO, **variables)) == expected


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__class__'].__mro__ }}",
        "{{ '' | attr('__class__') | attr('__mro__') }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ joiner.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__globals__['json'] }}",
        "{{ dict.__class__.__mro__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ namespace.__mro__[1].__subclasses__() }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ ('{0.__class__.__mro__}' | format_map({})) }}",
        "{{ '{x.__class__.__mro__}'.format_map({'x': 1}) }}",
        "{{ '%s' | map('attr', '__class__') | list | first }}{{ ''.__class__.__name__ }}",
        "{{ (messages | map(attribute='__class__') | first).__mro__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ self._TemplateReference__context.environment.globals }}",
        "{{ loop.__init__ if loop else (caller.__globals__) }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ messages.pop() }}",
        "{{ messages.clear() }}",
        "{{ range(999999999) | list }}",
    ],
)
def test_an_attack_reaches_nothing(attack: str) -> None:
    assert ours(lambda: ChatTemplate(attack).render(HELLO)) in (REFUSED, "")


@pytest.mark.parametrize("include", ["{% include '/etc/passwd' %}", "{% import 'os' as os %}", "{% extends 'x' %}"])
def test_a_template_loads_no_other_file(include: str) -> None:
    with pytest.raises(InputError, match="no loader"):
        ChatTemplate(include).render(HELLO)


def test_objects_reach_a_template_as_their_names_only() -> None:
    class Dangerous:
        def save(self) -> str:
            return "written"

    messages = [{"role": "user", "content": [{"type": "image", "image": Dangerous()}]}]
    assert ChatTemplate("{{ messages[0].content[0].image }}").render(messages) == "<Dangerous>"
    with pytest.raises(InputError):
        ChatTemplate("{{ messages[0].content[0].image.save() }}").render(messages)


def test_rich_data_becomes_plain_data() -> None:
    @dataclasses.dataclass
    class Record:
        name: str
        pixels: Any

    class Colour(enum.StrEnum):
        RED = "red"

    class Level(enum.IntEnum):
        HIGH = 3

    pydantic = SimpleNamespace(model_dump=lambda: {"a": Colour.RED})
    given = {
        "record": Record("x", np.zeros(2)),
        "list": [Level.HIGH, np.float64(0.5), np.bool_(False)],
        "t": (pydantic,),
    }
    plain = to_plain(given)
    assert plain == {"record": {"name": "x", "pixels": "<ndarray>"}, "list": [3, 0.5, False], "t": ({"a": "red"},)}
    assert [type(item) for item in plain["list"]] == [int, float, bool]
    assert type(plain["t"][0]["a"]) is str


def test_reasoning_is_given_its_standard_name() -> None:
    template = ChatTemplate("{{ messages[0].reasoning_content }}|{{ messages[0].thinking }}")
    assert template.render([{"reasoning": "why"}]) == "why|why"
    assert template.render([{"thinking": "t", "reasoning": "r"}]) == "t|t"


def test_variables_win_over_special_tokens() -> None:
    template = ChatTemplate("{{ one }}{{ two }}")
    assert template.render(HELLO, special_tokens={"one": "a", "two": "b"}, one="c") == "cb"


def test_what_the_template_raises_is_an_input_error() -> None:
    with pytest.raises(InputError, match="the chat template refused the messages: broken; check roles"):
        ChatTemplate("{{ raise_exception('broken') }}").render(HELLO)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tools": [len]}, "tool 0 is builtin_function_or_method, not a dict; pass its JSON schema"),
        ({"tools": [{}, lambda x: x]}, "tool 1 is function"),
        ({"tools": {"name": "f"}}, "tool 0 is str"),
        ({"documents": ["text"]}, "document 0 is str"),
        ({"add_generation_prompt": True, "continue_final_message": True}, "set one of them"),
        ({"continue_final_message": "tool_calls"}, "the last message has no 'tool_calls' to continue"),
        ({"continue_final_message": "role"}, "a field that this chat template does not read"),
    ],
)
def test_an_argument_is_refused_with_the_next_step(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ChatTemplate("{{ messages[0].content }}").render(HELLO, **arguments)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "has no 'content' to continue"),
        ([{"content": None}], "has no 'content' to continue"),
        ([{"content": 5}], "holds no text to continue"),
        ([{"content": []}], "holds no text to continue"),
        ([{"content": [{"type": "image"}]}], "holds no text to continue"),
        ([{"content": [{"type": "text", "text": 5}]}], "holds no text to continue"),
        ([{"content": "removed"}], "does not write the last message as it was given"),
        (["text"], "a message is str, not a dict"),
    ],
)
def test_what_cannot_be_continued_is_refused(messages: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ChatTemplate("{{ messages[0].content | replace('remo', '') }}").render(messages, continue_final_message=True)


def test_the_last_message_is_left_open() -> None:
    template = ChatTemplate("<{{ messages[0].content | trim }}>")
    assert template.render([{"content": "once  "}], continue_final_message=True) == "<once"
    assert ChatTemplate("<{{ messages[0].content }}>").render([{"content": "once  "}], continue_final_message=True) == (
        "<once  "
    )


@pytest.mark.parametrize("source", ["{% if %}", "{{ messages | nofilter }}", "{% for %}", "{% unknown %}"])
def test_a_template_that_is_no_template_is_an_asset_error(source: str) -> None:
    for use in (lambda t: t.render(HELLO), lambda t: t.variables, lambda t: t.literal_text):
        with pytest.raises(AssetError, match=r"the chat template is not valid Jinja: .*; use the chat_template"):
            use(ChatTemplate(source))


def test_nesting_without_end_is_an_input_error(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    loop: list[Any] = []
    loop.append(loop)
    call = {"function": {"name": "f", "arguments": {"a": loop}}}
    messages = [{"role": "assistant", "tool_calls": [call]}]
    uses = [
        lambda: template.render(messages),
        lambda: template.render(HELLO, x=loop),
        lambda: read_conversations(messages),
    ]
    batch = read_conversations(HELLO)
    for sanitize in (False, True):
        options = {"template": template, "tokenizer": tokenizer, "sanitize_control_tokens": sanitize, "extra": loop}
        uses.append(lambda options=options: render_prompts(batch, **options))
    for use in uses:
        with pytest.raises(InputError, match="nested too deeply, or contain themselves"):
            use()


def test_a_template_that_never_returns_is_an_input_error() -> None:
    with pytest.raises(InputError, match="the chat template refused the messages: maximum recursion"):
        ChatTemplate("{% macro deep(n) %}{{ deep(n + 1) }}{% endmacro %}{{ deep(0) }}").render(HELLO)


def test_importing_the_prompt_modules_loads_no_library() -> None:
    code = (
        "import sys; from gemma4_mm.assets import find; "
        "from gemma4_mm.prompt import messages, render, template, tokenizer; "
        "print(sorted({'jinja2', 'tokenizers', 'huggingface_hub', 'filelock', 'torch', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
