"""Drivers: one module per instrument family, each speaking that family's own wire protocol."""
