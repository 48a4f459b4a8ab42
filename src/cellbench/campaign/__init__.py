"""Campaigns: many cells through many protocols; those of published studies are the reference."""
