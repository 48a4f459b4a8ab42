"""Reference campaigns: what published studies measured, run again on the simulated bench."""
