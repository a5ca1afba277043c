"""The run directory: where stages meet, and what several of them read off it."""
