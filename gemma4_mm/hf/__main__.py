"""`python -m gemma4_mm.hf check`: is the door bit-identical to the transformers that is installed here?"""

import argparse
import sys
from importlib import metadata

from gemma4_mm.errors import Gemma4MMError


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison; 0 if every bit is equal and ours, 1 if not.

    Args:
        arguments: of the command line; None for the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m gemma4_mm.hf", description=__doc__)
    parser.add_argument("command", choices=["check"], help="compare with the installed transformers, in every bit")
    parser.parse_args(arguments)
    try:
        return _check()
    except Gemma4MMError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _check() -> int:
    from gemma4_mm.hf.check import cases, executions, find_gaps, run

    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("transformers", "torch", "torchvision"))
    sys.stdout.write(f"against {versions}\n")
    gaps = find_gaps()
    for gap in gaps:
        sys.stdout.write(f"not ours: {gap}\n")
    outcomes = [run(case, execution) for case in cases() for execution in executions()]
    wrong = [outcome for outcome in outcomes if outcome.different]
    for outcome in wrong:
        sys.stdout.write(f"differs: {outcome.name}: {', '.join(outcome.different)}\n")
    sys.stdout.write(f"{len(outcomes) - len(wrong)} of {len(outcomes)} calls equal in every bit\n")
    return 1 if wrong or gaps else 0


if __name__ == "__main__":
    raise SystemExit(main())
