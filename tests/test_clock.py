"""Virtual time, with every pitfall of jumping; real time, which moves when its loop wakes."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cellbench import clock
from cellbench.clock import VirtualTimeError, sleep_until, unseen


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_thousand_hours_pass_in_no_time() -> None:
    async def main() -> float:
        await asyncio.sleep(1000 * 3600)
        return now()

    started = time.perf_counter()
    assert clock.run(main(), virtual=True) == 3_600_000
    assert time.perf_counter() - started < 1


def test_time_starts_at_zero_and_keeps_whole_nanoseconds() -> None:
    async def main() -> list[float]:
        times = [now()]
        for _ in range(3):
            await asyncio.sleep(0.1)
            times.append(now())
        return times

    assert clock.run(main(), virtual=True) == [0.0, 0.1, 0.2, 0.3]


def test_a_long_sleep_late_in_a_long_run_becomes_due() -> None:
    async def main() -> float:
        await asyncio.sleep(1e7)
        await asyncio.sleep(1e-4)
        return now()

    assert clock.run(main(), virtual=True) == pytest.approx(1e7 + 1e-4, abs=1e-6)


def test_timers_that_were_cancelled_hold_up_nothing() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        for number in range(1000):
            loop.call_later(number, print).cancel()
        awake = loop.create_future()
        loop.call_later(3, awake.set_result, None)
        await awake
        for number in range(10):
            loop.call_later(number, print).cancel()
        await asyncio.to_thread(int)
        return loop.time()

    assert clock.run(main(), virtual=True) == 3


def test_absolute_deadlines_do_not_drift() -> None:
    async def main() -> float:
        due = 0.0
        for _ in range(1000):
            due += 0.1
            await sleep_until(due)
        return now()

    assert clock.run(main(), virtual=True) == pytest.approx(100.0, abs=1e-6)


def test_work_in_a_thread_holds_time_until_it_is_done() -> None:
    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        ticker = asyncio.create_task(asyncio.sleep(3600))
        await loop.run_in_executor(None, time.sleep, 0.15)
        held = now()
        await ticker
        return held, now()

    held, end = clock.run(main(), virtual=True)
    assert held == 0
    assert end == 3600


def test_a_hold_is_released_when_the_thread_fails() -> None:
    def fail() -> None:
        raise OSError("no disk")

    async def main() -> float:
        with ThreadPoolExecutor(1) as pool, pytest.raises(OSError, match="no disk"):
            await asyncio.get_running_loop().run_in_executor(pool, fail)
        await asyncio.sleep(10)
        return now()

    assert clock.run(main(), virtual=True) == 10


def test_time_stands_still_while_something_unseen_is_awaited() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        told = loop.create_future()
        timer = threading.Timer(0.1, lambda: loop.call_soon_threadsafe(told.set_result, None))
        timer.start()
        ticker = asyncio.create_task(asyncio.sleep(60))
        await unseen(told)
        at = now()
        ticker.cancel()
        return at

    assert clock.run(main(), virtual=True) == 0


def test_waiting_for_nothing_is_a_deadlock_and_is_said_at_once() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(VirtualTimeError, match="deadlock"):
        clock.run(main(), virtual=True)


def test_a_busy_loop_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "BUSY_LOOP_ITERATIONS", 1000)

    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(VirtualTimeError, match="busy loop"):
        clock.run(main(), virtual=True)


def test_equal_deadlines_fire_in_the_same_order_each_time() -> None:
    async def main() -> list[int]:
        order: list[int] = []

        async def note(index: int) -> None:
            await asyncio.sleep(1.0)
            order.append(index)

        await asyncio.gather(*(note(index) for index in range(50)))
        return order

    assert clock.run(main(), virtual=True) == clock.run(main(), virtual=True)


def test_a_timeout_fires_in_virtual_time() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(500):
                await asyncio.get_running_loop().create_future()
        return now()

    assert clock.run(main(), virtual=True) == 500


def test_scaled_time_takes_its_share_of_real_time() -> None:
    async def main() -> float:
        await asyncio.sleep(6.0)
        return now()

    started = time.perf_counter()
    assert clock.run(main(), virtual=True, speed=60) == pytest.approx(6.0, abs=0.1)
    assert time.perf_counter() - started >= 0.09


def test_real_time_is_the_ordinary_loop() -> None:
    async def main() -> type:
        return type(asyncio.get_running_loop())

    assert not issubclass(clock.run(main()), clock.VirtualLoop)


def test_a_wait_below_a_nanosecond_still_passes() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.1)
        timer = loop.create_future()
        loop.call_at(now() + 2e-6 + 1e-13, timer.set_result, None)
        await timer
        return now()

    assert clock.run(main(), virtual=True) > 0.1


def test_a_scaled_loop_without_timers_waits_for_others() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        told = loop.create_future()
        threading.Timer(0.2, lambda: loop.call_soon_threadsafe(told.set_result, None)).start()
        await told

    clock.run(main(), virtual=True, speed=60)


def test_work_in_a_thread_that_hangs_is_found_in_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "HOLD_LIMIT_S", 0.2)

    async def main() -> None:
        await unseen(asyncio.get_running_loop().create_future())

    with pytest.raises(VirtualTimeError, match="real time"):
        clock.run(main(), virtual=True)


def test_a_person_may_take_longer_than_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "HOLD_LIMIT_S", 0.05)

    async def main() -> str:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()
        threading.Timer(0.3, lambda: loop.call_soon_threadsafe(answer.set_result, "yes")).start()
        return await unseen(answer, patient=True)

    assert clock.run(main(), virtual=True) == "yes"


def test_time_that_jumps_can_pass_as_it_does_for_people_and_jump_again() -> None:
    async def main() -> tuple[float, float, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, clock.VirtualLoop)
        await asyncio.sleep(1e6)
        begun = time.perf_counter()
        loop.pace(1.0)
        assert not loop.jumps
        await asyncio.sleep(0.3)
        slow_s = time.perf_counter() - begun
        loop.pace(None)
        await asyncio.sleep(1e6)
        return slow_s, time.perf_counter() - begun, loop.time()

    slow_s, all_s, now_s = clock.run(main(), virtual=True)
    assert slow_s > 0.25
    assert all_s < 20.0
    assert now_s == 2e6 + 0.3


# --- Real time ------------------------------------------------------------------------------------


def test_real_time_stands_still_until_the_loop_wakes() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        times = [loop.time()]
        time.sleep(0.05)  # noqa: ASYNC251 (a long computation)
        await asyncio.sleep(0)
        times.append(loop.time())
        await asyncio.sleep(0.01)
        times.append(loop.time())
        return times

    first, same, later = clock.run(main())
    assert first == same
    assert later >= first + 0.05


def test_a_real_loop_tells_how_late_it_serves_timers() -> None:
    late: list[float] = []

    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, clock.RealLoop)
        loop.on_late = late.append
        due_s = loop.time() + 0.02
        loop.call_soon(time.sleep, 0.1)
        await clock.sleep_until(due_s)
        return due_s, loop.time()

    due_s, served_s = clock.run(main())
    assert late[-1] == pytest.approx(served_s - due_s)
    assert late[-1] > 0.05


def test_what_came_in_during_a_stall_comes_before_the_deadline_for_it() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            deadline_s = loop.time() + 0.05
            answer = asyncio.ensure_future(loop.sock_recv(ours, 1))
            await asyncio.sleep(0)
            theirs.send(b"1")
            time.sleep(0.2)  # noqa: ASYNC251 (a stall)
            async with asyncio.timeout_at(deadline_s):
                assert await answer == b"1"
            assert loop.time() < deadline_s
            await asyncio.sleep(0)
            return loop.time()

    clock.run(main())


def test_a_deadline_that_was_set_after_a_long_computation_has_its_time() -> None:
    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            time.sleep(0.3)  # noqa: ASYNC251 (a long computation)
            thread = threading.Timer(0.1, theirs.send, (b"1",))
            thread.start()
            try:
                async with asyncio.timeout(0.2):
                    return await loop.sock_recv(ours, 1)
            finally:
                thread.join()

    assert clock.run(main()) == b"1"


def test_real_time_moves_for_who_spins() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + 0.05
        while loop.time() < until_s:
            await asyncio.sleep(0)

    clock.run(main())


def test_timers_and_arrivals_do_not_starve_one_another() -> None:
    """One task always has a timer that is due, another always something that has come in."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        enough, counts = asyncio.Event(), {"timers": 0, "arrivals": 0}

        def count(what: str) -> None:
            counts[what] += 1
            if min(counts.values()) > 20:
                enough.set()

        async def timers() -> None:
            while not enough.is_set():
                await asyncio.sleep(2e-6)
                count("timers")

        def come_in() -> None:
            count("arrivals")
            if not enough.is_set():
                loop.call_soon_threadsafe(come_in)

        come_in()
        async with asyncio.timeout(60):
            await timers()

    clock.run(main())


@pytest.mark.parametrize(("speed", "seconds"), [(None, 2.0), (60.0, 120.0)])
def test_the_computer_is_no_faster_where_time_is(speed: float | None, seconds: float) -> None:
    async def main() -> float:
        return clock.of_real_time(2.0)

    assert clock.run(main(), virtual=True, speed=speed) == seconds
    assert clock.run(main()) == 2.0
