"""The commands beside the stages, and the output of all commands."""
