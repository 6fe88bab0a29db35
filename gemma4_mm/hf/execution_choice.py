"""The choice of kernel and threads that the image and the video processor carry, and never save."""

from typing import Any

from gemma4_mm.errors import InputError
from gemma4_mm.execution import Execution
from gemma4_mm.hf.pixels import default_execution


class ExecutionChoice:
    """Mixed into subclasses of transformers' processors."""

    @property
    def execution(self) -> Execution:
        """Kernel and threads; by default numba where it works, on as many threads as torch has at the time of a call.

        Raises:
            InputError: at setting, no `Execution`; None is the default again.
        """
        chosen: Execution | None = vars(self).get("_execution")
        return default_execution() if chosen is None else chosen

    @execution.setter
    def execution(self, value: Execution | None) -> None:
        if value is not None and not isinstance(value, Execution):
            raise InputError(f"execution is {value!r}; it must be an Execution(kernel=…, threads=…) or None")
        vars(self)["_execution"] = value

    def to_dict(self) -> dict[str, Any]:
        """What transformers saves, without our choice."""
        saved: dict[str, Any] = super().to_dict()  # type: ignore[misc]  # of transformers' class behind this one
        saved.pop("_execution", None)
        return saved
