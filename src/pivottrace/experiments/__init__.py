"""`pivottrace lab`: experiments of arms x seeds, each an ordinary run with some settings changed.

A file says what all arms share and what each changes. For every seed one base run makes pool,
rollouts, signals, scores and the accuracy before training; every arm's run directory begins as a
fork of it and goes on by `pivottrace run`. A finished arm leaves one small JSON file; the report
reads only those.
"""
