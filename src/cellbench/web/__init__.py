"""The page and the HTTP API over a store: a process of its own that no run depends on.

It reads the runs' files, and speaks to runs under way through their own command channel.
"""
