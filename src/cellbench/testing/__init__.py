"""The conformance kit: what every driver has to do, as checks that any driver can be put through.

A `Subject` says which driver, with which options, and how to get at its instrument; the checks of
its role are `checks_for`. Without pytest, ``failures(subject)`` carries them all out and returns
what went wrong; with it, one line makes a test of each:

    @pytest.mark.parametrize("check", checks_for("channel"), ids=str)
    def test_mydriver(check: Check) -> None:
        carry_out(check, subject)

The instrument may be an emulator in the same loop, in virtual time, or the real one, with a dummy
cell on its leads or nothing in its press. How the truth is known is the caller's: an emulator's
world, a second meter, a person. Checks that need more truth than there is are passed over.
"""

from cellbench.testing.checks import Check, NonConformance, NotApplicable, checks_for
from cellbench.testing.dummy_cell import DummyCell
from cellbench.testing.faults import Fault, FaultyLine
from cellbench.testing.outcome import Result, carry_out, failures, results
from cellbench.testing.subject import Amounts, Rig, Session, Subject

__all__ = [
    "Amounts",
    "Check",
    "DummyCell",
    "Fault",
    "FaultyLine",
    "NonConformance",
    "NotApplicable",
    "Result",
    "Rig",
    "Session",
    "Subject",
    "carry_out",
    "checks_for",
    "failures",
    "results",
]
