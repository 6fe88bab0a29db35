"""The worker's side of `process.CaseProcess`: one JSON line per request and answer, tensors as safetensors files.

First it writes {"versions": …} or {"unusable": …, "python": …}. Then to each

    {"case": {"name", "kind", "options"}, "inputs": "in.safetensors", "stages": "out.safetensors"}

it answers {"ok": true}, {"refused": "ValueError: …"} or {"failed": "…traceback…"}. It imports nothing of the package.
"""

import json
import os
import platform
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Case, inputs and a folder for files to stages by name.
Compute = Callable[[Mapping[str, Any], Mapping[str, Any], Path], Mapping[str, Any]]
_BUGS = (AttributeError, ImportError, NameError)  # of a worker or of a release that it does not fit, not refusals


def serve(begin: Callable[[], tuple[Compute, dict[str, str]]]) -> None:
    """Answer requests until the input ends. Whatever else is printed goes to stderr.

    Args:
        begin: imports what is needed, and returns what computes, and the versions of its packages.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    warnings.simplefilter("ignore")
    try:
        compute, versions = begin()
    except Exception as error:  # noqa: BLE001 (told to the parent in one line)
        send({"unusable": f"{type(error).__name__}: {error}", "python": platform.python_version()})
        return
    send({"versions": {**versions, "python": platform.python_version()}})
    for line in sys.stdin:
        send(_answer(compute, json.loads(line)))


def _answer(compute: Compute, request: Mapping[str, Any]) -> dict[str, Any]:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    try:
        with tempfile.TemporaryDirectory(prefix="gemma4-mm-worker-") as folder:
            stages = compute(request["case"], load_file(request["inputs"]), Path(folder))
    except _BUGS:
        return {"failed": traceback.format_exc()}
    except Exception as error:  # noqa: BLE001 (the reference has no error tree of its own)
        return {"refused": f"{type(error).__name__}: {error}"}
    save_file({name: np.ascontiguousarray(array) for name, array in stages.items()}, request["stages"])
    return {"ok": True}
