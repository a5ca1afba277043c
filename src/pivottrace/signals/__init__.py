"""Signals of one trace: its pivots, and the path of its mean hidden state. Pure functions."""
