"""What the commands do beside the stages, and what they print."""
