"""The cell card: what the technician believes about a cell, and the conversions that follow."""

from cellbench.cell.card import CardError, CellCard, disc_area_m2

__all__ = ["CardError", "CellCard", "disc_area_m2"]
