"""The viewer: pages of single questions of a run, each one HTML file without network."""
