"""Runs protocols on a bench: the walk, its journal, the limits, and the way to the safe state.

`session.prepare` turns what a user names into a program on a bench, `run.Conductor` runs it,
`evaluation.evaluate` says what came of it. They are imported from their modules, so that checking a
protocol does not wait for the store's libraries.
"""
