"""The files of exports for trainers: rewards, launch scripts, cards. None is imported here.

A Python file here imports PivotTrace's verifier. In an export it imports the copy that lies beside
it. In the other files `@NAME@` is a place that `exports.bundle` fills.
"""
