"""Rules that watch training and have a say in it: refinement of weak rows, and alarms."""
