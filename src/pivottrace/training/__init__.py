"""GRPO on both routes at once; TRL is imported only when it is used."""
