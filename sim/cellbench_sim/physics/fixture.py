"""What holds the stack: a servo press, a screw jig of constant gap, or a spring."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fixture:
    """Frame and drive. All values are assumed, of the usual size for a 10 mm die.

    `thermal_expansion_m_per_K` is how much more the stack and rods grow than the frame.
    `deadband_N` and `stroke_N` belong to the on-board loop of a servo, which pumps or bleeds one
    stroke where the force has left the deadband; a fixture with `servo` False is locked once it is
    set.
    """

    servo: bool
    stiffness_N_per_m: float
    thermal_expansion_m_per_K: float = 0.2e-6
    leak_per_s: float = 0.0
    deadband_N: float = 6.0
    stroke_N: float = 6.0
    ram_area_m2: float = 1.0e-3
    max_force_N: float = 25_000.0


SERVO_PRESS = Fixture(servo=True, stiffness_N_per_m=10e6, leak_per_s=0.005 / 3600.0)
SCREW_JIG = Fixture(servo=False, stiffness_N_per_m=10e6)
SPRING = Fixture(servo=False, stiffness_N_per_m=50e3)
