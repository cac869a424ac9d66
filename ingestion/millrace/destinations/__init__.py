"""Where marts are published to: one module a kind of destination."""
