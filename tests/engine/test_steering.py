"""Holds and skips reach what is interruptible, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from cellbench import clock
from cellbench.engine.steering import Steering


def test_a_hold_interrupts_and_the_walk_waits_for_its_end() -> None:
    async def walk() -> float:
        loop, steering = asyncio.get_running_loop(), Steering()
        loop.call_later(3.0, steering.hold, "pause", "paused")
        loop.call_later(4.0, steering.hold, "disk", "full")
        loop.call_later(5.0, steering.let_go, "pause")
        loop.call_later(9.0, steering.let_go, "disk")
        async with steering.interruptible() as interruption:
            await asyncio.sleep(100.0)
        assert interruption.happened
        assert loop.time() == 3.0
        await steering.wait()
        return loop.time()

    assert clock.run(walk(), virtual=True) == 9.0


def test_a_hold_leaves_alone_what_only_a_skip_interrupts() -> None:
    async def walk() -> float:
        loop, steering = asyncio.get_running_loop(), Steering()
        loop.call_later(3.0, steering.hold, "pause", "paused")
        loop.call_later(6.0, steering.skip)
        with steering.step("wait"):
            async with steering.interruptible(holds=False) as interruption:
                await asyncio.sleep(100.0)
            assert interruption.happened
            assert steering.skip_wanted
        assert not steering.skip_wanted
        return loop.time()

    assert clock.run(walk(), virtual=True) == 6.0


def test_a_skip_between_two_steps_belongs_to_none() -> None:
    async def walk() -> bool:
        loop, steering = asyncio.get_running_loop(), Steering()
        loop.call_later(3.0, steering.skip)
        async with steering.interruptible() as interruption:
            await asyncio.sleep(5.0)
        with steering.step("rest"):
            return interruption.happened or steering.skip_wanted

    assert clock.run(walk(), virtual=True) is False


def test_what_is_skipped_within_a_step_is_not_the_step_itself() -> None:
    steering = Steering()
    with steering.step("hold"):
        with steering.step("hold/every[1]/eis"):
            steering.skip()
            assert steering.skipped == "hold/every[1]/eis"
        assert steering.under_way == "hold"
        assert not steering.skip_wanted


def test_what_begins_under_a_hold_is_interrupted_at_its_first_wait() -> None:
    async def walk() -> float:
        steering = Steering()
        steering.hold("pause", "paused")
        async with steering.interruptible() as interruption:
            await asyncio.sleep(100.0)
        assert interruption.happened
        return asyncio.get_running_loop().time()

    assert clock.run(walk(), virtual=True) == 0.0


def test_a_time_out_within_is_no_interruption_and_a_cancellation_none_either() -> None:
    async def walk() -> None:
        steering = Steering()
        with pytest.raises(TimeoutError):
            async with steering.interruptible(), asyncio.timeout(1.0):
                await asyncio.sleep(100.0)

        async def interrupted() -> None:
            async with steering.interruptible():
                await asyncio.sleep(100.0)

        task = asyncio.create_task(interrupted())
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        steering.hold("pause", "paused")  # nothing is left of the scopes that ended

    clock.run(walk(), virtual=True)
