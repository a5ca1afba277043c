"""Stages: each reads tables of the run directory, calls the core, and writes tables."""
