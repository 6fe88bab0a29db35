"""`python -m tests.conformance.mutants`: the table of mutants, what fails them, and what `conform` calls them."""

import sys
import time

from tests.conformance.mutants.harness import MUTANTS, Suite


def say(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Print the table as Markdown; 1 if a mutant survives that is no proven equivalent."""
    suite, started, bad = Suite(), time.process_time(), 0
    say("| mutant | killed by | first at | named as |\n|---|---|---|---|")
    for mutant in MUTANTS:
        if len(sys.argv) > 1 and not any(word in mutant.name for word in sys.argv[1:]):
            continue
        verdict = suite.judge(mutant)
        survives = not verdict.killed_by
        bad += survives != bool(mutant.proof)
        killed = verdict.killed_by or (f"equivalent: {mutant.proof}" if mutant.proof else "**survives**")
        wrong = f" (expected {mutant.named})" if mutant.named and mutant.named != verdict.named else ""
        say(f"| {mutant.name} | {killed} | {verdict.stage} | {verdict.named}{wrong} |")
    say(f"\n{len(MUTANTS)} mutants, {bad} of them not as they should be; {time.process_time() - started:.0f} s of CPU")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
