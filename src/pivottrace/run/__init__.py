"""The run directory, in which stages meet, and the readings that several of them share."""
