"""Hugging Face's processor as the reference, in a process under any interpreter: no torch in this one, any release."""

import sys
from pathlib import Path

from gemma4_mm.assets.find import find_assets
from gemma4_mm.conformance.process import ORACLE_DIRECTORY, CaseProcess, Refused

__all__ = ["Reference", "Refused"]

_HINT = "install it there with: pip install 'gemma4-mm[parity]', or name another interpreter with --python"


class Reference(CaseProcess):
    """The oracle's process: transformers' `Gemma4UnifiedProcessor` and its masks; see `CaseProcess`.

        with Reference() as reference:
            stages = reference.stages(case)

    Args:
        python: the interpreter, which must have torch, torchvision, transformers, Pillow and safetensors, and for
            sound files soundfile with soxr or librosa; None for this one.
        tokenizer: directory of `tokenizer.json` and `chat_template.jinja`; None for the published files in the cache.

    Raises:
        InputError: no such interpreter, or it lacks a package.
        AssetError: there is no tokenizer.
    """

    def __init__(self, *, python: str | Path | None = None, tokenizer: Path | None = None) -> None:
        directory = find_assets(tokenizer).tokenizer.parent
        super().__init__(python or sys.executable, ORACLE_DIRECTORY / "worker.py", [str(directory)], hint=_HINT)

    @property
    def name(self) -> str:
        """What is compared with, e.g. `transformers 5.24.0`."""
        return f"transformers {self.versions['transformers']}"
