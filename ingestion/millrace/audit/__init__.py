"""Compares what is loaded with what its source has now, and mends what differs."""
