"""Data out to other people's programs, data in from them, and a run's data from Python."""
