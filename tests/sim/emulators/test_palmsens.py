"""The potentiostat on the wire: communication commands, scripts, errors, the cell it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellbench.errors import TransportClosed
from cellbench_sim.emulators import PalmSensEmulator

Tell = Callable[..., None]

CONSTANT_CURRENT = """
var p
var c
var t
set_pgstat_mode 6
set_range db 1m
set_i 0
cell_on
timer_start
meas_loop_cp p c {current} {interval} {duration}
    timer_get t
    pck_start
    pck_add t
    pck_add p
    pck_add c
    pck_end
endloop
on_finished:
    cell_off
"""
SPECTRUM = """
var f
var a
var b
set_pgstat_mode 3
set_range ba 1m
set_e 0
cell_on
meas_loop_eis f a b {amplitude} {first} {last} {points} 0
    pck_start
    pck_add f
    pck_add a
    pck_add b
    pck_end
endloop
on_finished:
    cell_off
"""


def values(line: str) -> list[float]:
    """Return the numbers in a package."""
    powers = dict(zip("afpnum kMGTPE", range(-18, 19, 3), strict=True)) | {"i": 0}
    found = []
    for field in line.removeprefix("P").split(";"):
        number = field.split(",")[0]
        is_nan = number.endswith("nan")
        exact = 0 if is_nan else int(number[2:9], 16) - 2**27
        found.append(float("nan") if is_nan else exact * 10.0 ** powers[number[9]])
    return found


def packages(lines: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([values(line) for line in lines if line.startswith("P")])


@pytest.mark.parametrize(
    ("request_", "end", "reply"),
    [
        (b"t\n", b"*\n", b"tnexus11107#Mar 12 2026 14:28:01\nR*\n"),
        (b"i\n", b"\n", b"iNEXUS26C0017\n"),
        (b"v\n", b"\n", b"v01.09.00\n"),
        (b"CM\n", b"\n", b"CM03FFFFBFE8FFFFFFFFFFFFFFFFFFFFBFFFFE\n"),
        (b"G06\n", b"\n", b"G0123456789ABCDEF\n"),
        (b"S0901\n", b"\n", b"S\n"),
        (b"S0600\n", b"\n", b"S!0005\n"),
        (b"GFF\n", b"\n", b"G!0004\n"),
        (b"Z\n", b"\n", b"Z!0006\n"),
        (b"r\n", b"\n", b"r!000C\n"),
        (b"fail\n", b"\n", b"f!0003\n"),
        (b"l\nvar p\n\n", b"\n", b"l\n"),
        (b"e\nvar p\n\n", b"\n\n", b"e\n\n"),
        (b"e\nfail\n\n", b"\n", b"e!4001: Line 1, Col 5\n"),
    ],
)
def test_each_command_answers_as_the_manual_says(
    with_potentiostat: Tell, request_: bytes, end: bytes, reply: bytes
) -> None:
    async def story(host: Any) -> None:
        assert await host.ask(request_, end) == reply

    with_potentiostat(story)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("var p\nvar p", "e!4026: Line 2, Col 4"),
        ("var 1p", "e!402B: Line 1, Col 4"),
        ("pck_add q", "e!420B: Line 1, Col 8"),
        ("var p\nstore_var p 1.5 ab", "e!4039: Line 2, Col 10"),
        ("var p\nstore_var p 1 zz", "e!4209: Line 2, Col 10"),
        ("var p\nif p > 1\n", "e!4018: Line 2"),
        ("endloop", "e!400E: Line 1, Col 8"),
        ("breakloop", "e!400C: Line 1, Col 10"),
        ("var p\nmeas_loop_ocp p 1 1\nwait 1\nendloop", "e!401A: Line 3, Col 5"),
        (
            "var p\nmeas_loop_ocp p 1 1\nmeas_loop_ocp p 1 1\nendloop\nendloop",
            "e!400B: Line 3, Col 14",
        ),
        ("var p\nvar c\nmeas_loop_ca p c 0 1 1\nset_e 0\nendloop", "e!4032: Line 4, Col 6"),
        ("var p\nvar c\nmeas_loop_cp p c 0 1 1\nset_i 0\nendloop", "e!4033: Line 4, Col 6"),
        ("meas_loop_swv\nendloop", "e!001B: Line 1, Col 14"),
        ("send_string hello", "e!4004: Line 1, Col 12"),
        ("cell_on now(1)", "e!4008: Line 1, Col 8"),
        ("wait", "e!4004: Line 1, Col 5"),
        ("wait 1 2", "e!420A: Line 1, Col 5"),
    ],
)
def test_a_wrong_script_is_refused_before_it_runs(
    with_potentiostat: Tell, script: str, error: str
) -> None:
    async def story(host: Any) -> None:
        assert await host.run_script(script) == [error]
        assert not host.device.running

    with_potentiostat(story)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("set_e 0", "0023"),
        ("set_pgstat_mode 9", "0021"),
        ("set_pgstat_mode 2\nset_e 11", "000F"),
        ("set_pgstat_mode 2\nset_range_minmax da 0 1\nset_e 2", "000F"),
        ("set_pgstat_mode 6\nset_e 1", "0023"),
        ("set_pgstat_mode 2\nset_i 1m", "0023"),
        ("set_pgstat_mode 6\nset_i 2", "4205"),
        ("set_pgstat_chan 1", "002F"),
        ("cell_on", "0023"),
        ("set_pgstat_mode 2\nmeas_loop_ca p p 0 1 1\nendloop", "4027"),
        ("set_pgstat_mode 2\ncell_on\nmeas_loop_cp p p 0 1 1\nendloop", "0023"),
        ("set_pgstat_mode 2\ncell_on\nmeas_loop_ocp p 1 1\nendloop", "0014"),
        ("set_pgstat_mode 3\ncell_on\nmeas_loop_eis p p p 10m 2M 1 3i 0\nendloop", "0011"),
        ("set_pgstat_mode 3\ncell_on\nmeas_loop_eis p p p 1 1M 1 3i 0\nendloop", "0012"),
        ("set_pgstat_mode 3\ncell_on\nmeas_loop_eis p p p 10m 1M 1 3 0\nendloop", "4207"),
        ("set_pgstat_mode 2\ncell_on\nmeas_loop_lsv p p 0 0 1m 1m\nendloop", "4029"),
        ("set_pgstat_mode 2\ncell_on\nmeas_loop_ca p p 0 1u 1\nendloop", "0058"),
        ("div_var p 0", "0028"),
        ("add_var p 1i", "4207"),
        ("pck_end", "401B"),
        ("set_script_output 7i", "403C"),
        ("await_int", "002E"),
        ("wait -1", "4200"),
    ],
)
def test_a_fault_names_its_line_and_skips_what_should_have_finished(
    with_potentiostat: Tell, script: str, code: str
) -> None:
    text = f'var p\n{script}\non_finished:\nsend_string "finished"'
    statements = script.removesuffix("\nendloop").splitlines()
    faulty = len(statements) + 1

    async def story(host: Any) -> None:
        lines = await host.run_script(text)
        assert lines[-1] == f"!{code}: Line {faulty}"
        assert not any(line.startswith("T") for line in lines)
        assert not host.device.running

    with_potentiostat(story)


def test_after_an_error_the_instrument_is_deaf_for_a_while(with_potentiostat: Tell) -> None:
    async def story(host: Any) -> None:
        assert await host.ask(b"fail\n") == b"f!0003\n"
        assert await host.is_silent(b"i\n")
        await asyncio.sleep(0.1)
        assert await host.ask(b"i\n") == b"iNEXUS26C0017\n"

    with_potentiostat(story)


def test_a_line_without_an_end_is_given_up(with_potentiostat: Tell) -> None:
    async def story(host: Any) -> None:
        assert await host.ask(b"x" * 300) == b"!0008\n"
        await asyncio.sleep(0.1)
        assert await host.ask(b"i\n") == b"iNEXUS26C0017\n"

    with_potentiostat(story)


def test_half_a_line_waits_for_its_other_half(with_potentiostat: Tell) -> None:
    async def story(host: Any) -> None:
        assert await host.is_silent(b"C")
        assert (await host.ask(b"M\n")).startswith(b"CM")

    with_potentiostat(story)


def test_a_constant_current_is_sampled_at_whole_intervals(
    with_potentiostat: Tell, cell: Any
) -> None:
    async def story(host: Any) -> None:
        lines = await host.run_script(
            CONSTANT_CURRENT.format(current="100u", interval="500m", duration="5")
        )
        assert (lines[0], lines[-1]) == ("M000A", "*")
        time_s, voltage_V, current_A = packages(lines).T
        assert time_s == pytest.approx(np.arange(1, 11) * 0.5, abs=1e-5)
        assert voltage_V == pytest.approx(100e-6 * cell.resistance_ohm, rel=1e-3)
        assert current_A == pytest.approx(100e-6, rel=1e-3)
        assert lines[1].count(",10,") == 2
        assert lines[1].endswith(",10,228")
        assert cell.is_open

    with_potentiostat(story)


def test_noise_differs_from_sample_to_sample_and_not_from_run_to_run(
    with_potentiostat: Tell,
) -> None:
    script = CONSTANT_CURRENT.format(current="10u", interval="1", duration="5")
    runs: list[list[str]] = []

    async def story(host: Any) -> None:
        runs.append(await host.run_script(script))

    with_potentiostat(story)
    with_potentiostat(story)
    with_potentiostat(story, seed=2)
    assert runs[0] == runs[1] != runs[2]
    assert len(set(packages(runs[0])[:, 1])) > 1


def test_a_galvanostat_on_an_open_circuit_saturates(with_potentiostat: Tell, cell: Any) -> None:
    cell.parallel_ohm = 1e12

    async def story(host: Any) -> None:
        lines = await host.run_script(
            CONSTANT_CURRENT.format(current="-100u", interval="1", duration="2")
        )
        _, voltage_V, current_A = packages(lines).T
        assert voltage_V == pytest.approx(-10, abs=1e-3)
        assert current_A == pytest.approx(0, abs=1e-7)
        assert lines[1].count(",12,") == 2

    with_potentiostat(story)


def test_an_output_stage_that_left_its_limit_drives_the_set_point_again(
    with_potentiostat: Tell, cell: Any
) -> None:
    cell.parallel_ohm = 1e6

    async def story(host: Any) -> None:
        script = CONSTANT_CURRENT.format(current="100u", interval="1", duration="4")
        await host.stream.write(f"e\n{script.strip()}\n\n".encode())
        await asyncio.sleep(2.5)
        cell.parallel_ohm = 900.0
        output = await host.stream.read_until(b"\n\n", 100)
        voltage_V = packages(output.decode().splitlines())[:, 1]
        assert voltage_V == pytest.approx([10, 10, 0.1, 0.1], rel=1e-3)

    with_potentiostat(story)


def test_a_short_circuit_draws_no_more_than_the_instrument_can_give(
    with_potentiostat: Tell, cell: Any
) -> None:
    cell.series_ohm, cell.parallel_ohm = 0.5, 0.5

    async def story(host: Any) -> None:
        lines = await host.run_script(
            "var p\nvar c\nset_pgstat_mode 2\ncell_on\nmeas_loop_ca p c 5 1 2\n"
            "pck_start\npck_add p\npck_add c\npck_end\nendloop\ncell_off"
        )
        assert packages(lines)[:, 1] == pytest.approx(1.0, abs=1e-3)
        assert all(",12," in line for line in lines if line.startswith("P"))

    with_potentiostat(story)


def test_a_current_too_small_for_its_range_is_marked(with_potentiostat: Tell) -> None:
    script = (
        "var p\nvar c\nset_pgstat_mode 2\n{}\nset_e 1m\ncell_on\nmeas_loop_ca p c 1m 1 1\n"
        "pck_start\npck_add c\npck_end\nendloop\ncell_off"
    )

    async def story(host: Any) -> None:
        fixed = await host.run_script(script.format("set_range ba 10m"))
        chosen = await host.run_script(script.format("set_autoranging ba 1u 10m"))
        assert fixed[1].endswith(",14,209")
        assert chosen[1].endswith(",10,203")

    with_potentiostat(story)


def test_a_spectrum_is_that_of_the_cell_within_the_instruments_accuracy(
    with_potentiostat: Tell, cell: Any
) -> None:
    async def story(host: Any) -> None:
        script = SPECTRUM.format(amplitude="10m", first="1M", last="1", points="31i")
        lines = await host.run_script(script)
        frequency_Hz, real, imaginary = packages(lines).T
        assert lines[0] == "M000D"
        assert frequency_Hz == pytest.approx(np.geomspace(1e6, 1, 31), rel=1e-5)
        measured, ideal = real + 1j * imaginary, cell.impedance(frequency_Hz)
        error = np.abs(measured / ideal - 1)
        assert np.max(error) < 0.01
        assert 1e-4 < np.median(error) < 3e-3

    with_potentiostat(story)


def test_an_impedance_beyond_measure_reads_nan(with_potentiostat: Tell, cell: Any) -> None:
    cell.series_ohm = float("inf")

    async def story(host: Any) -> None:
        script = SPECTRUM.format(amplitude="10m", first="1M", last="1", points="3i")
        lines = await host.run_script(script)
        assert np.all(np.isnan(packages(lines)[:, 1:]))
        assert all("cc     nan," in line for line in lines[1:-1])

    with_potentiostat(story)


def test_a_half_sent_script_waits_for_its_end_whoever_sends_it(with_potentiostat: Tell) -> None:
    async def story(host: Any) -> None:
        await host.stream.write(b'e\nsend_string "first"\n')
        successor = host.device.connect()
        await successor.write(b"\n")
        assert await successor.read_until(b"\n\n", 1) == b"e\nTfirst\n\n"

    with_potentiostat(story)


def test_low_frequencies_take_their_time(with_potentiostat: Tell) -> None:
    async def story(host: Any) -> None:
        started_s = asyncio.get_running_loop().time()
        script = SPECTRUM.format(amplitude="10m", first="10m", last="1m", points="2i")
        await host.run_script(script)
        assert asyncio.get_running_loop().time() - started_s == pytest.approx(2200, abs=1)

    with_potentiostat(story)


def test_a_device_refuses_frequencies_above_its_own_band(with_potentiostat: Tell) -> None:
    async def story(host: Any) -> None:
        script = SPECTRUM.format(amplitude="10m", first="1M", last="1", points="3i")
        assert (await host.run_script(script))[-1] == "!0011: Line 8"

    with_potentiostat(story, profile="emstat4_hr")


def test_a_small_device_has_no_galvanostat(with_potentiostat: Tell) -> None:
    async def story(host: Any) -> None:
        assert int((await host.ask(b"CM\n"))[2:], 16) >> 67 & 0b1111 == 0
        assert await host.run_script("set_pgstat_mode 6") == ["!0021: Line 1"]

    with_potentiostat(story, profile="pico")


def test_after_a_fault_the_cell_stays_on_until_it_is_switched_off(
    with_potentiostat: Tell, cell: Any
) -> None:
    async def story(host: Any) -> None:
        lines = await host.run_script(
            "set_pgstat_mode 2\nset_e 1\ncell_on\nset_e 11\non_finished:\ncell_off"
        )
        assert lines == ["!000F: Line 4"]
        assert cell.commands[-1] == ("voltage", 1.0)
        assert await host.run_script("cell_off") == []
        assert cell.is_open

    with_potentiostat(story)


def test_abort_finishes_the_sample_and_what_comes_last(with_potentiostat: Tell, cell: Any) -> None:
    async def story(host: Any) -> None:
        script = CONSTANT_CURRENT.format(current="1u", interval="10", duration="1000")
        await host.stream.write(f"e\n{script.strip()}\n\n".encode())
        await asyncio.sleep(25)
        assert (await host.ask(b"Z\n", b"Z\n")).count(b"P") == 2
        rest = await host.stream.read_until(b"\n\n", 100)
        assert rest.startswith(b"P")
        assert rest.endswith(b"*\n\n")
        assert asyncio.get_running_loop().time() == pytest.approx(30, abs=0.01)
        assert cell.is_open

    with_potentiostat(story)


def test_a_busy_instrument_says_so_and_goes_on(with_potentiostat: Tell) -> None:
    async def story(host: Any) -> None:
        await host.stream.write(b'e\nwait 5\nsend_string "done"\n\n')
        assert await host.stream.read_until(b"\n", 1) == b"e\n"
        assert await host.ask(b"i\n") == b"i!0006\n"
        assert await host.stream.read_until(b"\n\n", 10) == b"Tdone\n\n"

    with_potentiostat(story)


def test_halt_and_resume_shift_what_is_to_come(with_potentiostat: Tell) -> None:
    async def story(host: Any) -> None:
        await host.stream.write(
            b"e\nvar p\nmeas_loop_ocp p 1 4\npck_start\npck_add p\npck_end\nendloop\n\n"
        )
        await asyncio.sleep(1.5)
        assert (await host.ask(b"h\n", b"h\n")).count(b"P") == 1
        await asyncio.sleep(100)
        assert await host.ask(b"H\n") == b"H\n"
        rest = await host.stream.read_until(b"\n\n", 10)
        assert rest.count(b"P") == 3
        assert asyncio.get_running_loop().time() == pytest.approx(104, abs=0.01)

    with_potentiostat(story)


def test_a_measurement_can_be_skipped_and_the_script_goes_on(with_potentiostat: Tell) -> None:
    async def story(host: Any) -> None:
        await host.stream.write(
            b'e\nvar p\nmeas_loop_ocp p 1 100\nendloop\nsend_string "next"\nwait 1\n\n'
        )
        await asyncio.sleep(2.5)
        assert (await host.ask(b"Y\n", b"Y\n")).endswith(b"Y\n")
        assert await host.stream.read_until(b"\n\n", 10) == b"*\nTnext\n\n"

    with_potentiostat(story)


def test_loops_conditions_and_strings_do_what_they_say(with_potentiostat: Tell) -> None:
    script = """
    var i
    var x
    store_var i 0i ja
    store_var x 500m ab
    loop i < 3i          # three passes
        add_var i 1i
        if i == 1i
            send_string "one"
        elseif i == 2i
            send_string f"two {i} {x}"
        else
            send_string "more # of them"
            breakloop
        endif
    endloop
    set_script_output 0i
    send_string "unheard"
    set_script_output 1i
    abort
    send_string "never"
    on_finished:
        send_string "end"
    """

    async def story(host: Any) -> None:
        assert await host.run_script(script) == [
            "L", "Tone", "Ttwo 2 0.5", "Tmore # of them", "+", "Tend",
        ]  # fmt: skip

    with_potentiostat(story)


def test_a_cut_off_on_the_device_ends_the_half_cycle(with_potentiostat: Tell) -> None:
    script = """
    var p
    var c
    var most
    store_var most 50m ab
    set_pgstat_mode 6
    cell_on
    meas_loop_lsp p c 0 100u 10u 10u
        pck_start
        pck_add p
        pck_end
        if p >= most
            send_string "CUT"
            breakloop
        endif
    endloop
    on_finished:
        cell_off
    """

    async def story(host: Any) -> None:
        lines = await host.run_script(script)
        assert lines[0] == "M000F"
        assert lines[-2:] == ["TCUT", "*"]
        assert packages(lines)[-1, 0] == pytest.approx(0.05, abs=0.011)

    with_potentiostat(story)


def test_an_open_circuit_potential_closes_the_cell_without_inrush(
    with_potentiostat: Tell, cell: Any
) -> None:
    cell.open_circuit_V = 3.7

    async def story(host: Any) -> None:
        await host.run_script("var p\nset_pgstat_mode 2\nmeas 100m p ab\ncell_on ocp(p)")
        assert cell.commands[-1] == ("voltage", pytest.approx(3.7, abs=1e-3))

    with_potentiostat(story)


def test_a_fast_clock_samples_early(with_potentiostat: Tell) -> None:
    async def story(host: Any) -> None:
        script = CONSTANT_CURRENT.format(current="1u", interval="10", duration="1000")
        lines = await host.run_script(script)
        assert packages(lines)[-1, 0] == pytest.approx(1000, abs=1e-3)
        assert asyncio.get_running_loop().time() == pytest.approx(999, abs=0.01)

    with_potentiostat(story, clock_drift=1 / 999)


def test_it_samples_by_its_own_clock_while_the_computer_that_plays_it_stalls(
    with_potentiostat: Tell,
) -> None:
    async def story(host: Any) -> None:
        asyncio.get_running_loop().call_later(0.1, time.sleep, 0.15)
        lines = await host.run_script(
            CONSTANT_CURRENT.format(current="1u", interval="20m", duration="400m")
        )
        assert packages(lines)[:, 0] == pytest.approx(np.arange(1, 21) * 0.02, abs=1e-5)

    with_potentiostat(story, virtual=False)


def test_a_script_outlives_its_host(with_potentiostat: Tell) -> None:
    async def story(host: Any) -> None:
        await host.stream.write(b'e\nwait 10\nsend_string "done"\n\n')
        await host.stream.close()
        await asyncio.sleep(5)
        successor = host.device.connect()
        assert await successor.read_until(b"\n\n", 10) == b"Tdone\n\n"

    with_potentiostat(story)


def test_a_second_host_takes_the_link_of_the_first(with_potentiostat: Tell) -> None:
    async def story(host: Any) -> None:
        second = host.device.connect()
        with pytest.raises(TransportClosed, match="lost this connection"):
            await host.ask(b"i\n")
        await second.write(b"i\n")
        assert await second.read_until(b"\n", 1) == b"iNEXUS26C0017\n"

    with_potentiostat(story)


def test_an_endless_loop_inside_a_measurement_is_a_fault(with_potentiostat: Tell) -> None:
    async def story(host: Any) -> None:
        lines = await host.run_script(
            "var p\nvar i\nmeas_loop_ocp p 1 5\nloop i == 0\nendloop\nendloop"
        )
        assert lines[-1] == "!0058: Line 4"

    with_potentiostat(story)


_LINES = st.sampled_from(
    [
        "store_var p 5m ab", "store_var c 1i ja", "add_var c 1i", "mul_var p -1", "copy_var p c",
        "if p > c", "elseif c == 1i", "else", "endif", "loop c < 5i", "endloop", "breakloop",
        "set_pgstat_mode 2", "set_pgstat_mode 3", "set_pgstat_mode 6", "set_e 1", "set_i 1m",
        "cell_on", "cell_on ocp(p)", "cell_off", "set_range ba 10m", "set_autoranging ba 1u 1m",
        "meas 100m p ab", "meas_loop_ca p c 100m 1 5", "meas_loop_cp p c 1m 1 5",
        "meas_loop_ocp p 1 5", "meas_loop_eis p c p 10m 1k 1 5i 0", "pck_start", "pck_add p",
        "pck_add c", "pck_end", "wait 1", 'send_string f"{p}"', "timer_start", "timer_get p",
        "abort", "on_finished:", "# nothing",
    ]
)  # fmt: skip


@given(st.lists(_LINES, max_size=25))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_script_brings_the_instrument_down(with_potentiostat: Tell, lines: list[str]) -> None:
    blocks = sum(line.startswith(("loop", "meas_loop")) for line in lines) - lines.count("endloop")
    choices = sum(line.startswith("if") for line in lines) - lines.count("endif")
    whole = ["var p", "var c", *lines, *["endif"] * max(0, choices), *["endloop"] * max(0, blocks)]

    async def story(host: Any) -> None:
        await host.stream.write("\n".join(["e", *whole, "", ""]).encode())
        await asyncio.sleep(100)
        await host.stream.write(b"Z\n")
        await asyncio.sleep(100)
        await host.stream.drain(0.1)
        assert await host.ask(b"\ni\n") == b"iNEXUS26C0017\n"

    with_potentiostat(story)


@given(st.binary(max_size=200))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_bytes_bring_the_instrument_down(with_potentiostat: Tell, data: bytes) -> None:
    async def story(host: Any) -> None:
        with contextlib.suppress(TransportClosed):
            await host.stream.write(data)
        await asyncio.sleep(1)
        await host.stream.write(b"\n\n")
        await asyncio.sleep(1)
        await host.stream.drain(0.1)
        assert await host.ask(b"i\n") == b"iNEXUS26C0017\n"

    with_potentiostat(story)


def test_a_bench_file_says_its_model(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        assert (await host.ask(b"t\n", b"*\n")).startswith(b"tes4_hr")

    options = {"model": "emstat4_hr", "f max": "200 kHz", "port": "usb:EmStat4"}
    with_emulator(story, PalmSensEmulator.from_bench, options=options)
