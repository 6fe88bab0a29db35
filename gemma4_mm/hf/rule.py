"""Which calls are ours: the arguments, media and state of torch under which the bits are known to be transformers'."""

from dataclasses import dataclass
from typing import Any, Final

from gemma4_mm.core.vision.patches import Rescale
from gemma4_mm.hf.theirs import torch
from gemma4_mm.spec import PATCH_PX, POOLING, SOFT_TOKEN_BUDGETS

_BICUBIC: Final = 3  # PIL's number; torchvision's enum says "bicubic"
_RESCALE_FACTOR: Final = 1 / 255


@dataclass(frozen=True, kw_only=True)
class PixelRule:
    """How one call turns levels into values.

    Attributes:
        max_soft_tokens: budget of an image or frame.
        rescale: transformers multiplies by 1/255, and divides by 255 where it normalises with mean 0 and deviation 1.
    """

    max_soft_tokens: int
    rescale: Rescale


def read_rule(arguments: dict[str, Any]) -> PixelRule | None:
    """Read validated arguments of transformers' `_preprocess`; None for a call that is left to transformers."""
    budget = arguments.get("max_soft_tokens")
    standard = (
        arguments.get("do_resize") is True
        and arguments.get("do_rescale") is True
        and arguments.get("rescale_factor") == _RESCALE_FACTOR
        and _is_bicubic(arguments.get("resample"))
        and _is_int(arguments.get("patch_size"), PATCH_PX)
        and _is_int(arguments.get("pooling_kernel_size"), POOLING)
        and type(budget) is int
        and budget in SOFT_TOKEN_BUDGETS
        and str(arguments.get("device") or "cpu") == "cpu"
    )
    if not standard or not isinstance(budget, int) or not is_plain_torch():
        return None
    if arguments.get("do_normalize") is False:
        return PixelRule(max_soft_tokens=budget, rescale="multiply")
    if (
        arguments.get("do_normalize") is True
        and _all_equal(arguments.get("image_mean"), 0)
        and _all_equal(arguments.get("image_std"), 1)
    ):
        return PixelRule(max_soft_tokens=budget, rescale="divide")
    return None


def is_plain_torch() -> bool:
    """Whether torch computes what is written: float32 by default, nothing traced, compiled or redirected."""
    if torch.get_default_dtype() != torch.float32 or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    # Modes redirect functions, e.g. a default device or fake tensors; a release without these counters is left alone.
    counters = [getattr(torch._C, name, None) for name in ("_len_torch_function_stack", "_len_torch_dispatch_stack")]
    return all(counter is not None and counter() == 0 for counter in counters)


def is_plain_tensor(value: Any) -> bool:
    """Whether a tensor is no subclass, dense, uint8 and on the CPU."""
    return (
        type(value) is torch.Tensor
        and value.dtype == torch.uint8
        and value.device.type == "cpu"
        and value.layout == torch.strided
    )


def _is_bicubic(resample: Any) -> bool:
    if getattr(resample, "value", None) == "bicubic":
        return True
    return isinstance(resample, int) and not isinstance(resample, bool) and int(resample) == _BICUBIC


def _is_int(value: Any, wanted: int) -> bool:
    return type(value) is int and value == wanted


def _all_equal(values: Any, wanted: int) -> bool:
    """Whether there is one value a channel, and all are the number wanted."""
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(type(value) in (int, float) and value == wanted for value in values)
    )
