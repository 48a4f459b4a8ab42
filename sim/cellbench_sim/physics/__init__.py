"""The physics of the simulated bench: cell, press and chamber, in plain floats and SI units."""
