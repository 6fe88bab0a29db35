"""Rules of Apple's text engines about the functions of a model: inputs, logits and KV states of `main`."""

from collections.abc import Callable, Mapping
from typing import Final

from gemma4_mm.coreai.bundle.bundle import Bundle
from gemma4_mm.coreai.bundle.contract_rule import AssetRule, Finding, is_count, section
from gemma4_mm.coreai.bundle.specs import FunctionSpec, TensorSpec

Functions = Mapping[str, FunctionSpec]
_INPUTS: Final = ("input_ids", "position_ids")  # the engines take names by position
_STATES: Final = ("keyCache", "valueCache")
_STATE_COUNT: Final = (2, 4)
_STATE_DTYPES: Final = frozenset({"float16", "bfloat16", "float32"})
_STATE_RANK: Final = 5
_CONTEXT_AXIS: Final = 3


def _main(look: Callable[[Bundle, FunctionSpec], Finding]) -> Callable[[Bundle, Functions], Finding]:
    """A rule about `main`; a model without one breaks the rule `main-function` only, whose words say it."""

    def of_main(bundle: Bundle, functions: Functions) -> Finding:
        main = functions.get("main")
        return look(bundle, main) if main else Finding(found="absent, as main is", holds=True)

    return of_main


def _there(_: Bundle, functions: Functions) -> Finding:
    return Finding(found=", ".join(functions) or "nothing", holds="main" in functions)


def _input_order(_: Bundle, main: FunctionSpec) -> Finding:
    return Finding(found=", ".join(main.inputs), holds=tuple(main.inputs) == _INPUTS)


def _input_types(_: Bundle, main: FunctionSpec) -> Finding:
    return Finding(
        found=", ".join(f"{name} {spec.dtype}" for name, spec in main.inputs.items()),
        holds=all(str(spec.dtype) == "int32" for spec in main.inputs.values()),
    )


def _input_axes(_: Bundle, main: FunctionSpec) -> Finding:
    return Finding(
        found=", ".join(f"{name} {_sizes(spec)}" for name, spec in main.inputs.items()),
        holds=all(len(spec.shape) == 2 and spec.shape[1] is None for spec in main.inputs.values()),
    )


def _first_output(main: FunctionSpec) -> TensorSpec | None:
    return next(iter(main.outputs.values()), None)


def _logits_first(_: Bundle, main: FunctionSpec) -> Finding:
    first = _first_output(main)
    return Finding(found=first.name if first else "missing", holds=first is not None and first.name == "logits")


def _logits_float16(_: Bundle, main: FunctionSpec) -> Finding:
    first = _first_output(main)
    return Finding(found=str(first.dtype) if first else "missing", holds=first is None or str(first.dtype) == "float16")


def _logits_width(bundle: Bundle, main: FunctionSpec) -> Finding:
    first, vocabulary = _first_output(main), section(bundle, "language", "vocab_size")
    width = first.shape[-1] if first and first.shape else None
    holds = width is None or not is_count(vocabulary) or width == vocabulary
    return Finding(found=f"{width} where language.vocab_size is {vocabulary}", holds=holds)


def _state_count(_: Bundle, main: FunctionSpec) -> Finding:
    least, most = _STATE_COUNT
    return Finding(found=str(len(main.states)), holds=least <= len(main.states) <= most)


def _state_names(_: Bundle, main: FunctionSpec) -> Finding:
    holds = not main.states or set(_STATES) <= set(main.states)  # how many is another rule
    return Finding(found=", ".join(main.states) or "none", holds=holds)


def _state_types(_: Bundle, main: FunctionSpec) -> Finding:
    return Finding(
        found=", ".join(f"{name} {spec.dtype}" for name, spec in main.states.items()) or "none",
        holds=all(str(spec.dtype) in _STATE_DTYPES for spec in main.states.values()),
    )


def _state_shapes(_: Bundle, main: FunctionSpec) -> Finding:
    shapes = [spec.shape for spec in main.states.values()]
    fits = all(len(shape) == _STATE_RANK and shape[1] == 1 for shape in shapes)
    return Finding(found=_states(main), holds=fits and len(set(shapes)) <= 1)


def _state_length(_: Bundle, main: FunctionSpec) -> Finding:
    axes = [spec.shape[_CONTEXT_AXIS] for spec in main.states.values() if len(spec.shape) == _STATE_RANK]
    return Finding(found=_states(main), holds=all(size is None for size in axes))


def _same_states(_: Bundle, functions: Functions) -> Finding:
    main, multimodal = functions.get("main"), functions.get("prefill_multimodal")
    if main is None or multimodal is None:
        return Finding(found="not both there", holds=True)
    return Finding(found=_states(multimodal), holds=dict(main.states) == dict(multimodal.states))


def _states(function: FunctionSpec) -> str:
    return ", ".join(f"{name} {spec}" for name, spec in function.states.items()) or "none"


def _sizes(spec: TensorSpec) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in spec.shape)}]"


ASSET_RULES: Final = (
    AssetRule(
        name="main-function",
        what="the functions of the model",
        wanted="main, which the engines call",
        engine="all text engines",
        look=_there,
    ),
    AssetRule(
        name="main-inputs",
        what="the inputs of main",
        wanted="input_ids and position_ids, two and in this order",
        engine="all text engines",
        look=_main(_input_order),
    ),
    AssetRule(
        name="main-input-types",
        what="the element type of main's inputs",
        wanted="int32",
        engine="all text engines",
        look=_main(_input_types),
    ),
    AssetRule(
        name="main-input-lengths",
        what="the shape of main's inputs",
        wanted="[1, any length]: prefill in chunks of at most 512, then one token at a time",
        engine="all text engines",
        look=_main(_input_axes),
    ),
    AssetRule(
        name="logits-first",
        what="the first output of main",
        wanted="logits",
        engine="all text engines",
        look=_main(_logits_first),
    ),
    AssetRule(
        name="logits-float16",
        what="the element type of main's first output",
        wanted="float16: 'Only float16 logits supported'",
        engine="all text engines",
        look=_main(_logits_float16),
    ),
    AssetRule(
        name="logits-width",
        what="the last axis of main's first output",
        wanted="language.vocab_size",
        engine="all text engines",
        look=_main(_logits_width),
    ),
    AssetRule(
        name="state-count",
        what="the number of main's states",
        wanted="two (the KV pair) to four",
        engine="all text engines",
        look=_main(_state_count),
    ),
    AssetRule(
        name="state-names",
        what="the names of main's states",
        wanted=" and ".join(_STATES),
        engine="VLM engine",
        look=_main(_state_names),
    ),
    AssetRule(
        name="state-types",
        what="the element type of main's states",
        wanted="float16, bfloat16 or float32",
        engine="all text engines",
        look=_main(_state_types),
    ),
    AssetRule(
        name="state-shapes",
        what="the shape of main's states",
        wanted="(layers, 1, KV heads, C, head width), the same for all",
        engine="all text engines",
        look=_main(_state_shapes),
    ),
    AssetRule(
        name="state-length",
        what="the length C of main's states",
        wanted="open, so that caches start at 256 rows and double; every step works on all rows of a fixed one",
        engine="all text engines",
        look=_main(_state_length),
        failure="advice",
    ),
    AssetRule(
        name="state-sharing",
        what="the states of prefill_multimodal",
        wanted="those of main: they are the same buffers",
        engine="VLM engine",
        look=_same_states,
    ),
)
