"""Where marts are published to: one package per kind of destination."""
