"""Parts of a run made on the nodes of a Ray cluster."""
