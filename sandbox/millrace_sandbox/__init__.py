"""Real local services for the laptop, the demo and the tests."""
