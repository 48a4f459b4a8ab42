"""Where the statements of MethodSCRIPT are registered, each with what compiles it."""

from __future__ import annotations

from collections.abc import Callable

from cellbench_sim.emulators.mscript.machine import SyncCode, TimedCode
from cellbench_sim.emulators.mscript.parser import Statement
from cellbench_sim.emulators.mscript.scope import Scope

#: Commands that instruments have and that are not emulated.
NOT_EMULATED = frozenset({
    "abs_var", "alter_vartype", "array", "beep", "bit_and_var", "bit_or_var", "bit_xor_var",
    "file_close", "file_open", "float_to_int", "get_gpio", "hibernate", "i2c_config",
    "i2c_read", "i2c_write", "i2c_write_read", "int_to_float", "log_var", "meas_fast_ca",
    "meas_fast_cv", "meas_loop_acv", "meas_loop_cv", "meas_loop_dpv", "meas_loop_eis_dual",
    "meas_loop_fca", "meas_loop_npv", "meas_loop_pad", "meas_loop_swv", "mod_var",
    "mux_config", "mux_set_channel", "peak_detect", "pow_var", "rtc_get", "set_gpio",
    "set_gpio_cfg", "set_gpio_pullup", "set_ir_comp", "set_poly_we_mode", "set_scan_dir",
    "smooth",
})  # fmt: skip

#: Statements that take no time, and statements that wait.
SYNC: dict[str, Callable[[Scope, Statement], SyncCode]] = {}
TIMED: dict[str, Callable[[Scope, Statement], TimedCode]] = {}


def sync(
    *names: str,
) -> Callable[[Callable[[Scope, Statement], SyncCode]], Callable[[Scope, Statement], SyncCode]]:
    """Register the decorated function as the compiler of statements that take no time."""

    def register(
        compile_it: Callable[[Scope, Statement], SyncCode],
    ) -> Callable[[Scope, Statement], SyncCode]:
        SYNC.update(dict.fromkeys(names, compile_it))
        return compile_it

    return register


def timed(
    name: str,
) -> Callable[[Callable[[Scope, Statement], TimedCode]], Callable[[Scope, Statement], TimedCode]]:
    """Register the decorated function as the compiler of a statement that waits."""

    def register(
        compile_it: Callable[[Scope, Statement], TimedCode],
    ) -> Callable[[Scope, Statement], TimedCode]:
        TIMED[name] = compile_it
        return compile_it

    return register
