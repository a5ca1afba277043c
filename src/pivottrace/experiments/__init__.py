"""`pivottrace lab`: experiments of arms x seeds, each an ordinary run with some settings changed.

A file states the settings that all arms share and the changes of each arm. For every seed one base
run makes pool, rollouts, signals, scores and the accuracy before training. Every arm's run
directory begins as a fork of the base run, and `pivottrace run` goes on with it. A finished arm
leaves one small JSON file, and the report reads only these files.
"""
