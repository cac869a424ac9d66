"""Where rows are loaded: one module a kind of warehouse."""
