"""True answers: their budget, the store that holds it, and the files that people fill in."""
