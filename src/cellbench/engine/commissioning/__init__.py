"""Before a bench is trusted: what is connected, who answers, do its limits act, what does it say.

Nothing here needs a protocol or a cell card.
"""
