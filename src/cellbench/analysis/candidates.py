"""The circuits that a cell's spectrum may show, by kind of cell, and what their arcs may be."""

import numpy as np

from cellbench.analysis.circuits import Arc, Circuit, ConstantPhase, Element, Resistor

BULK_BELOW_F = 1.5e-10  # effective capacitances of cells of about 1 cm2
INTERFACE_ABOVE_F = 5e-8
DIFFUSION_ABOVE_F = 5e-3  # in a cell with insertion: no double layer, but particles that fill

BULK = Resistor("bulk")
# At tens of MHz the bulk is its own arc, whose foot reaches down into the band of many instruments.
BULK_ARC = Arc("bulk", ideal=True)
_ARC, _SECOND, _THIRD = Arc("arc"), Arc("second arc"), Arc("third arc")
SPIKE = ConstantPhase("spike")
#: Solid diffusion in the particles: a Warburg line that steepens as they fill.
TAIL = ConstantPhase("diffusion")
BLOCKING: tuple[Circuit, ...] = (
    (BULK, SPIKE),
    (BULK_ARC, SPIKE),
    (BULK, _ARC, SPIKE),
    (BULK_ARC, _ARC, SPIKE),
)
REVERSIBLE: tuple[Circuit, ...] = (
    (BULK,),
    (BULK, _ARC),
    (BULK_ARC, _ARC),
    (BULK, _ARC, _SECOND),
    (BULK_ARC, _ARC, _SECOND),
    (BULK, _ARC, _SECOND, _THIRD),
)
INSERTING: tuple[Circuit, ...] = (
    (BULK,),
    (BULK, _ARC),
    (BULK, _ARC, TAIL),
    (BULK_ARC, _ARC),
    (BULK, _ARC, _SECOND),
    (BULK, _ARC, _SECOND, TAIL),
    (BULK_ARC, _ARC, _SECOND, TAIL),
    (BULK, _ARC, _SECOND, _THIRD),
    (BULK, _ARC, _SECOND, _THIRD, TAIL),
    (BULK_ARC, _ARC, _SECOND, _THIRD),
    (BULK_ARC, _ARC, _SECOND, _THIRD, TAIL),
)


def range_F(circuit: Circuit, arc: Element) -> tuple[float, float]:
    """Between which capacitances (F) an arc can be what its place in the circuit says.

    Between blocking electrodes an arc of an interface's capacitance is a part of the spike.
    """
    if arc == BULK_ARC:
        return 0.0, BULK_BELOW_F
    return (
        BULK_BELOW_F if BULK_ARC in circuit else 0.0,
        INTERFACE_ABOVE_F if SPIKE in circuit else np.inf,
    )
