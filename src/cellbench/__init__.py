"""cellbench runs battery cell tests unattended, on real instruments or on a simulated bench."""

__version__ = "0.1.0"
