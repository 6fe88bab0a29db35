"""Jinja's sandbox with a budget: steps and sizes of `prompt.budget` are charged where a template can spend them.

Loops and macros take a step per round (`environment.tick` is put into their bodies), operators, filters and calls are
checked before they make a long text, and charged for what they made.
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from types import GeneratorType
from typing import Any, Final

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gemma4_mm.prompt.budget import ITEMS_PER_STEP, MAX_BITS, check_chars, check_size, each, made, step

_STEPS_PER_CALL: Final = 8
_CHARS_PER_TICK: Final = 256  # of a loop body's own text
_GROWING: Final = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs", "indent", "batch", "slice"}) | {
    *("wordwrap", "tojson")
}
_WHOLE: Final = frozenset({"string", "pprint", "xmlattr", "join", "sum", "format", "escape", "e", "forceescape"}) | {
    *("urlize", "replace", "_concat", "indent", "center", "wordwrap", "batch", "slice", "tojson")
}
_DIGITS: Final = re.compile(r"\d{6,}|\{[^{}]*\{|%[^a-z%]*\*")  # a width in millions, or one that an argument gives


class GuardedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox; where tokens are marked, numbers and bytes cannot become characters, hence no marks."""

    makes_characters = True
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.finalize = _written
        self.globals.pop("lipsum", None)

    def guard_filters(self) -> None:
        """Charge every filter; call it after the last filter was set."""
        self.filters["_concat"] = _concat
        self.filters["_sliced"] = _sliced
        self.filters["_held"] = _held
        self.filters = {name: _guarded(name, function) for name, function in self.filters.items()}

    @property
    def tick(self) -> None:
        """Takes one step; put into the body of every loop and macro."""
        step()

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may read it."""
        if not self.makes_characters and attr in ("decode", "fromhex", "maketrans", "translate"):
            return False
        return attr != "maketrans" and bool(super().is_safe_attribute(obj, attr, value))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Check and charge what an operator makes."""
        if operator == "+":
            if isinstance(left, str) and isinstance(right, str):
                check_chars(len(left) + len(right))
            elif isinstance(left, list | tuple):
                check_size(left, right)
        elif operator == "*":
            _check_product(left, right)
        elif operator == "**":
            if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > MAX_BITS:
                raise OverflowError(f"a power of more than {MAX_BITS} bits")
        elif isinstance(left, str):
            self.check_formatted(right)
            _check_format(left, right)
        return made(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063 (as Jinja)
        """Check and charge what a call makes."""
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str):
            _check_method(owner, name, args, kwargs)
        result = super().call(__context, __obj, *args, **kwargs)
        if type(result) in (str, list, tuple, dict):
            if type(result) is dict:
                check_size(result)
            made(result)
        step(_STEPS_PER_CALL)
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format`, checked."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def checked(*args: Any, **kwargs: Any) -> str:
            self.check_formatted((args, kwargs))
            _check_format(value.__self__, (args, kwargs))
            return str(made(wrapped(*args, **kwargs)))

        return checked

    def check_formatted(self, values: Any) -> None:
        """Refuse numbers in the range of the marks, which `%c` would make characters of."""
        if self.makes_characters:
            return
        left = [values]
        while left:
            value = left.pop()
            if isinstance(value, Mapping):
                left.extend(value.values())
            elif isinstance(value, list | tuple):
                left.extend(value)
            elif isinstance(value, int | float) and 0xD800 <= value < 0xE000:
                raise SecurityError(f"{value} is not formatted where control tokens are told apart")


def add_ticks(tree: nodes.Template) -> None:
    """Put steps into loops and macros, and send through filters what no operator tells of: `~`, slices and lists."""
    node: Any
    for node in list(tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock))):
        own = sum(len(item.data) for item in node.find_all(nodes.TemplateData))
        tick = [nodes.ExprStmt(nodes.EnvironmentAttribute("tick"), lineno=node.lineno)]
        node.body = tick * (1 + own // _CHARS_PER_TICK) + node.body
    _rewrite(tree)


def _rewrite(node: nodes.Node) -> None:
    for name, value in list(node.iter_fields()):
        if isinstance(value, nodes.Node):
            _rewrite(value)
            setattr(node, name, _replaced(value))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, nodes.Node):
                    _rewrite(item)
                    value[index] = _replaced(item)


def _replaced(node: nodes.Node) -> nodes.Node:
    if isinstance(node, nodes.Concat):
        return _filter(nodes.List(node.nodes, lineno=node.lineno), "_concat", [])
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        none = nodes.Const(None, lineno=node.lineno)
        return _filter(node.node, "_sliced", [node.arg.start or none, node.arg.stop or none, node.arg.step or none])
    if isinstance(node, nodes.List | nodes.Dict) and any(not isinstance(n, nodes.Const) for n in _values(node)):
        return _filter(node, "_held", [])
    if isinstance(node, nodes.Tuple) and node.ctx == "load" and any(not isinstance(n, nodes.Const) for n in node.items):
        return _filter(node, "_held", [])
    return node


def _values(node: Any) -> list[nodes.Node]:
    return [item.value for item in node.items] if isinstance(node, nodes.Dict) else list(node.items)


def _filter(node: nodes.Expr, name: str, args: list[Any]) -> nodes.Filter:
    return nodes.Filter(node, name, args, [], None, None, lineno=node.lineno)


def _written(value: Any) -> Any:
    if not isinstance(value, str):
        check_size(value)
        return value
    return made(value)


def _concat(values: list[Any]) -> str:
    return "".join(map(str, values))


def _sliced(value: Any, start: Any, stop: Any, by: Any) -> Any:
    return value[start:stop:by]


def _held(value: Any) -> Any:
    check_size(value)
    return value


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    n_leading = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)  # keeps Jinja's note of which argument it passes
    def guarded(*args: Any, **kwargs: Any) -> Any:
        given = args[n_leading:]
        value: Any = given[0] if given else None
        if name in _WHOLE and isinstance(value, GeneratorType | Iterator):
            value = list(each(value))
            given = (value, *given[1:])
            args = (*args[:n_leading], *given)
        if name in _WHOLE:
            size = check_size(*given, kwargs)
            rest = (*given[1:], *kwargs.values())
            if name == "replace" and len(given) > 2:
                _check_method(str(value), "replace", given[1:], kwargs)
            elif name == "format":
                _check_format(str(value), (given[1:], kwargs))
            elif name == "join":
                n_items = len(value) if hasattr(value, "__len__") else 1
                check_chars(size + n_items * max((len(item) for item in rest if isinstance(item, str)), default=0))
            elif name in _GROWING:
                widths = [len(i) if isinstance(i, str) else abs(i) for i in rest if isinstance(i, str | int | float)]
                check_chars(int((size if name != "center" else 1) * (1 + sum(min(width, 1e9) for width in widths))))
        elif hasattr(value, "__len__"):
            step(len(value) // ITEMS_PER_STEP)
        result = function(*args, **kwargs)
        return each(result) if isinstance(result, GeneratorType) else made(result)

    return guarded


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > MAX_BITS:
            raise OverflowError(f"a whole number of more than {MAX_BITS} bits")
        return
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str | bytes | list | tuple) and isinstance(times, int):
            check_chars((len(value) if isinstance(value, str | bytes) else check_size(value)) * max(times, 0))


def _check_method(text: str, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if name in _GROWING:
        numbers = [abs(item) for item in (*args, *kwargs.values()) if isinstance(item, int)]
        check_chars(len(text) + max(numbers, default=8) * (1 + text.count("\t") if name == "expandtabs" else 1))
    elif name == "replace" and len(args) > 1 and isinstance(args[0], str) and isinstance(args[1], str):
        check_chars(len(text) + (text.count(args[0])) * len(args[1]))
    elif name == "join" and args:
        n_items = len(args[0]) if hasattr(args[0], "__len__") else 0
        check_chars(check_size(args[0]) + len(text) * n_items)
    elif name == "translate":
        check_chars(len(text) * check_size(*args))


def _check_format(text: str, values: Any) -> None:
    if _DIGITS.search(text):
        raise OverflowError("a format with a width of six digits, or one that an argument gives")
    check_chars(check_size(values) * (text.count("%") + text.count("{")) + 100_000 * text.count(":"))
