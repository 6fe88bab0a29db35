"""mlx-vlm's own Gemma 4 processors as a subject: `--subject tests.conformance.peers.mlx_subject:run_case`.

They run in an environment of their own, made with `pip install 'mlx-vlm[cpu]'`, whose interpreter `MLX_VLM_PYTHON`
names. The process starts at the import, so that a missing package ends a run instead of being compared.
"""

import atexit
import os
from pathlib import Path

from gemma4_mm.conformance.process import ORACLE_DIRECTORY, CaseProcess
from gemma4_mm.conformance.records import Case, Stages
from gemma4_mm.errors import InputError

VARIABLE = "MLX_VLM_PYTHON"


def run_case(case: Case) -> Stages:
    """Stages of images, videos and sounds; none of the rest, which mlx-vlm does not do in a processor."""
    return _PROCESS.stages(case) if case.kind in ("image", "video", "audio") else {}


def _start() -> CaseProcess:
    python = os.environ.get(VARIABLE)
    if python is None:
        raise InputError(f"{VARIABLE} is not set; name the interpreter of an environment with mlx-vlm[cpu]")
    worker = Path(__file__).with_name("mlx_worker.py")
    return CaseProcess(python, worker, [str(ORACLE_DIRECTORY)], hint="pip install 'mlx-vlm[cpu]' there")


_PROCESS = _start()
atexit.register(_PROCESS.close)
