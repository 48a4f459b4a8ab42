"""MethodSCRIPT, as an instrument runs it: parsed, compiled to closures once, then executed."""

from cellbench_sim.emulators.mscript import loops, settings, spectra, statements
from cellbench_sim.emulators.mscript.compiler import compile_script
from cellbench_sim.emulators.mscript.machine import Machine, Program
from cellbench_sim.emulators.mscript.values import ScriptError

#: Importing these registers what they compile.
VOCABULARY = (statements, settings, loops, spectra)

__all__ = ["VOCABULARY", "Machine", "Program", "ScriptError", "compile_script"]
