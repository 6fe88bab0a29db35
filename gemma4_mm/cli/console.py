"""Progress on stderr, where a person looks at it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """Show the current step of long work: a spinner on a terminal, plain lines elsewhere.

    Yields:
        A function that takes the text of the next step.
    """
    if not sys.stderr.isatty():
        yield lambda text: print(text, file=sys.stderr)  # noqa: T201 (this is the command line)
        return
    from rich.console import Console

    with Console(stderr=True).status("…") as spinner:
        yield spinner.update


@contextmanager
def progress_bar(unit: str) -> Iterator[Callable[[int, int, int], None] | None]:
    """Show how far long work is, on a terminal; nothing elsewhere.

    Args:
        unit: what is counted, such as "requests".

    Yields:
        A function that takes how many are done, how many of them failed, and how many there are; None where nobody
        looks.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit + "{task.fields[failed]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None, failed="")

        def show(n_done: int, n_failed: int, n_all: int) -> None:
            bar.update(task, completed=n_done, total=n_all, failed=f", {n_failed} failed" if n_failed else "")

        yield show
