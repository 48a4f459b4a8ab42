"""The campaign of faults: what may happen to a night, and what must be true all the same."""
