"""The reference campaigns: what studies published, and what the simulated bench gives for it."""
