"""Where rows are loaded: one package per kind of warehouse."""
