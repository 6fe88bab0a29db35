"""Spreading work over threads: order, bounds, errors, nesting and forks."""

import os
import threading
import time

import pytest

from gemma4_mm import Execution
from gemma4_mm.errors import InputError


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_item_is_worked_on_once(threads):
    done = []
    Execution(threads=threads).spread(done.append, range(200))
    assert sorted(done) == list(range(200))


def test_a_single_thread_works_in_order_and_on_the_caller():
    seen = []
    Execution().spread(lambda item: seen.append((item, threading.current_thread())), range(5))
    assert seen == [(item, threading.current_thread()) for item in range(5)]


@pytest.mark.parametrize("threads", [2, 3])
def test_so_many_threads_work_at_once_and_no_more(threads):
    barrier = threading.Barrier(threads, timeout=30)  # passed only if all are here at once
    lock, now, most = threading.Lock(), 0, 0

    def work(_item):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        barrier.wait()
        with lock:
            now -= 1

    Execution(threads=threads).spread(work, range(4 * threads))
    assert most == threads


def test_a_generator_is_run_by_one_thread_at_a_time_and_never_ahead():
    lock, taken, finished, most = threading.Lock(), 0, 0, 0

    def items():
        nonlocal taken, most
        for item in range(100):
            with lock:
                taken += 1
                most = max(most, taken - finished)
            time.sleep(0.001)  # long enough for another thread to come, which Python refuses
            yield item

    def work(_item):
        nonlocal finished
        with lock:
            finished += 1

    Execution(threads=3).spread(work, items())
    assert finished == 100
    assert most <= 3


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_first_failure_in_order_is_raised_and_nothing_further_begun(threads):
    begun = []
    late = threading.Event()

    def work(item):
        begun.append(item)
        if item == 3:  # fails after its successor did, where there is one at work
            late.wait(timeout=0.2)
            raise ValueError(item)
        if item >= 4:
            late.set()
            raise ValueError(item)

    with pytest.raises(ValueError, match=r"^3$"):
        Execution(threads=threads).spread(work, range(1000))
    assert len(begun) <= 3 + threads


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_of_the_items_is_raised(threads):
    done = []

    def items():
        yield from range(3)
        raise InputError("no fourth frame")

    with pytest.raises(InputError, match="no fourth frame"):
        Execution(threads=threads).spread(done.append, items())
    assert sorted(done) == [0, 1, 2]


def test_work_may_spread_in_turn():
    execution = Execution(threads=2)
    done = []

    def outer(item):
        execution.spread(lambda inner: done.append((item, inner)), range(7))

    execution.spread(outer, range(9))
    assert sorted(done) == [(item, inner) for item in range(9) for inner in range(7)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    execution = Execution(threads=2)
    execution.spread(lambda _item: None, range(4))
    child = os.fork()
    if child == 0:
        barrier = threading.Barrier(2, timeout=20)
        try:
            execution.spread(lambda _item: barrier.wait(), range(2))
        except BaseException:  # noqa: BLE001 (an exit code is all that a child can say)
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kernel": "cuda"}, "kernel is 'cuda'; it must be one of numpy"),
        ({"threads": 0}, "threads is 0; it must be a whole number of 1 to 256"),
        ({"threads": True}, "threads is True"),
        ({"threads": 1.5}, "threads is 1.5"),
    ],
)
def test_a_bad_choice_is_refused_in_words(arguments, words):
    with pytest.raises(InputError, match=words):
        Execution(**arguments)
