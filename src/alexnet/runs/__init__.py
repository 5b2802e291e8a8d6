"""A run at rest: its hash, directory, result, checkpoint and metrics."""
