"""How the tables of the laboratory came to be, step by step (alembic)."""
