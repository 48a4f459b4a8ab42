"""The simulated bench: cell physics, and emulators that speak the bytes of real instruments."""
