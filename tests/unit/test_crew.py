"""The crew of receiving threads: never nobody, never more than need be."""

from __future__ import annotations

import threading

from jindopy.fuse.crew import Crew

THREADS_MAX = 64


def test_whoever_waits_is_replaced_and_the_surplus_goes_to_the_bench():
    hired: list[int] = []
    crew = Crew(lambda: hired.append(1), THREADS_MAX)
    with crew.waiting():
        assert len(hired) == 1
        assert not crew.surplus
    assert crew.surplus, "the one who waited receives again beside the hired one"
    benched = threading.Thread(target=crew.bench)
    benched.start()
    for _ in range(500):
        if not crew.surplus:
            break
        threading.Event().wait(0.01)
    assert not crew.surplus
    with crew.waiting():
        assert len(hired) == 1, "woken from the bench, nobody hired"
        benched.join(5)
        assert not benched.is_alive()
    crew.dismiss()


def test_nobody_is_benched_when_all_are_needed():
    crew = Crew(lambda: None, THREADS_MAX)
    crew.bench()  # returns: it is the only one
    with crew.waiting():
        crew.bench()  # returns: the hired one is the only one that receives


def test_the_crew_is_bounded():
    hired: list[int] = []
    crew = Crew(lambda: hired.append(1), THREADS_MAX)
    stack = [crew.waiting() for _ in range(THREADS_MAX + 10)]
    for one in stack:
        one.__enter__()
    assert len(hired) == THREADS_MAX - 1
    for one in reversed(stack):
        one.__exit__(None, None, None)
    crew.dismiss()


def test_dismissal_empties_the_bench_and_hires_no_more():
    hired: list[int] = []
    crew = Crew(lambda: hired.append(1), THREADS_MAX)
    with crew.waiting():
        pass
    benched = threading.Thread(target=crew.bench)
    benched.start()
    crew.dismiss()
    benched.join(5)
    assert not benched.is_alive()
    with crew.waiting(), crew.waiting():
        assert len(hired) == 1
