"""The cell card: what the technician believes about a cell, and the conversions that follow."""

from cellbench.cell.card import CardError, CellCard, OnSoftShort, disc_area_m2
from cellbench.cell.plausible import Doubt, doubts

__all__ = ["CardError", "CellCard", "Doubt", "OnSoftShort", "disc_area_m2", "doubts"]
