"""What holds the stack: a servo or a laboratory press, a screw jig of constant gap, a spring."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fixture:
    """Frame and drive. All values are assumed, of the usual size for a 10 mm die.

    `thermal_expansion_m_per_K` is how much more the stack and rods grow than the frame.
    `deadband_N` and `stroke_N` belong to the on-board loop of a servo, which pumps or bleeds one
    stroke where the force has left the deadband; a fixture with `servo` False is locked once it is
    set. Between none and `least_force_N` the drive cannot set a force: its valves are made for
    more. The load cell in the line of force ends where the drive does, at `max_force_N`.
    """

    servo: bool
    stiffness_N_per_m: float
    thermal_expansion_m_per_K: float = 0.2e-6
    leak_per_s: float = 0.0
    deadband_N: float = 6.0
    stroke_N: float = 6.0
    ram_area_m2: float = 1.0e-3
    least_force_N: float = 0.0
    max_force_N: float = 5_000.0


SERVO_PRESS = Fixture(servo=True, stiffness_N_per_m=10e6, leak_per_s=0.005 / 3600.0)
#: 15 t: on 10 mm from 25 to 1872 MPa.
LABORATORY_PRESS = Fixture(
    servo=True,
    stiffness_N_per_m=50e6,
    leak_per_s=0.005 / 3600.0,
    deadband_N=30.0,
    stroke_N=30.0,
    ram_area_m2=4.5e-3,
    least_force_N=2_000.0,
    max_force_N=147_000.0,
)
#: 318 MPa on 10 mm: what is pressed into a pellet can be held on it.
SCREW_JIG = Fixture(servo=False, stiffness_N_per_m=10e6, max_force_N=25_000.0)
SPRING = Fixture(servo=False, stiffness_N_per_m=50e3)

#: By the names that bench files give them.
FIXTURES = {
    "servo": SERVO_PRESS,
    "laboratory press": LABORATORY_PRESS,
    "screw": SCREW_JIG,
    "spring": SPRING,
}
