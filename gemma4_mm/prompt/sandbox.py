"""The Jinja sandbox in which a chat template runs: it came with a download and is not trusted.

Imported by `prompt.template` when a template is first compiled, so that nothing else loads Jinja.
Source of the environment's features: transformers 5.24 `utils/chat_template_utils.py`.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NoReturn

from jinja2 import Template, TemplateError, meta, nodes, pass_environment
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.filters import do_format
from jinja2.parser import Parser
from jinja2.utils import Namespace

from gemma4_mm.prompt.budget import check_chars, counted
from gemma4_mm.prompt.control_tokens import TokenMarks
from gemma4_mm.prompt.guards import GuardedEnvironment, add_ticks

_SOURCE_WEIGHT: Final = 64  # a template of over a million characters is none
_SEARCHES: Final = frozenset(
    {"split", "rsplit", "partition", "rpartition", "startswith", "endswith", "find", "rfind"}
) | {*("index", "rindex", "count", "strip", "lstrip", "rstrip", "removeprefix", "removesuffix")}


@lru_cache(maxsize=32)
def compile_template(source: str, control_tokens: tuple[str, ...] = ()) -> Template:
    """Compile a template in a sandbox of its own.

    Args:
        source: Jinja source.
        control_tokens: tokens that are marked in the template's own text; see `prompt.control_tokens`. Not marked are
            constants that it compares with or searches for: those look at text that the caller gave.

    Raises:
        TemplateError: the source is not a valid template. Python's compiler can raise its own errors.
    """
    environment = GuardedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, LoopControlExtension]
    )
    environment.filters["tojson"] = _to_json
    environment.filters["format"] = _format
    environment.globals.update(
        raise_exception=_raise_exception, strftime_now=_strftime_now, dict=_DictFactory(), namespace=_CheckedNamespace
    )
    environment.guard_filters()
    check_chars(len(source) * _SOURCE_WEIGHT)
    with counted():
        return _compile(environment, source, control_tokens)


def _compile(environment: GuardedEnvironment, source: str, control_tokens: tuple[str, ...]) -> Template:
    tree = environment.parse(source)
    if control_tokens:
        environment.makes_characters = False
        _mark_own_text(tree, TokenMarks(control_tokens))
    add_ticks(tree)
    return environment.from_string(tree)


def render(template: Template, variables: Mapping[str, Any]) -> str:
    """Render a compiled template within the budget of `prompt.budget`.

    Raises:
        LimitError: it makes too long a text, or takes too many steps.
    """
    with counted():
        chunks: list[str] = []
        n_chars = 0
        for chunk in template.root_render_func(template.new_context(dict(variables))):
            n_chars += len(chunk)
            check_chars(n_chars)
            chunks.append(chunk)
        return "".join(chunks)


@lru_cache(maxsize=16)
def undeclared_variables(source: str) -> frozenset[str]:
    """Names that the template reads and does not set: what a caller may pass to it."""
    return frozenset(meta.find_undeclared_variables(_parse(source)))


@lru_cache(maxsize=16)
def literal_text(source: str) -> str:
    """The text and the string constants that the template can write, joined by NUL characters."""
    tree = _parse(source)
    constants = {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
    return "\0".join(constants | {node.data for node in tree.find_all(nodes.TemplateData)})


def _mark_own_text(tree: nodes.Template, marks: TokenMarks) -> None:
    searched: set[int] = set()
    node: Any
    for node in tree.find_all((nodes.Compare, nodes.Call, nodes.Filter, nodes.Test)):
        if isinstance(node, nodes.Compare | nodes.Test):
            searched.update(id(item) for item in node.find_all(nodes.Const))
        elif isinstance(node, nodes.Filter):
            searched.update(id(item) for item in node.args[:1] if node.name in ("replace", "trim"))
        elif isinstance(node.node, nodes.Getattr):
            whole, first = node.node.attr in _SEARCHES, node.node.attr == "replace"
            searched.update(id(item) for item in (node.args if whole else node.args[:1] if first else ()))
    for node in tree.find_all(nodes.TemplateData):
        node.data = marks.mark(node.data)
    for node in tree.find_all(nodes.Const):
        if isinstance(node.value, str) and id(node) not in searched:
            node.value = marks.mark(node.value)


@pass_environment
def _format(environment: GuardedEnvironment, value: str, *args: Any, **kwargs: Any) -> str:
    environment.check_formatted((args, kwargs))
    return do_format(value, *args, **kwargs)


def _parse(source: str) -> nodes.Template:
    return compile_template(source).environment.parse(source)


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the model wrote; it renders as what is inside."""

    tags = {"generation"}  # noqa: RUF012 (declared so by Jinja)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # A call block, since names set inside must not be seen outside
        return nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller: Callable[[], str]) -> str:
        return caller()


class _DictFactory:
    """`dict(…)` and `dict.fromkeys(…)` without the type itself."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


class _CheckedNamespace(Namespace):
    """`namespace(…)` that refuses names with a leading underscore, by which internals could be reached."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # self is in args, as in Jinja: an attribute may be called self
        self, *rest = args
        for name in dict(*rest, **kwargs):
            _check_name(name)
        Namespace.__init__(self, *rest, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace attribute may not begin with an underscore: {name!r}")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the HTML escapes of Jinja's own filter."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
