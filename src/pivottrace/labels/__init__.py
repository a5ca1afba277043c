"""True answers: the store that holds the budget, their sources, and the files for people."""
