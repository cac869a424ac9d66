"""Where rows come from: one package per kind of source."""
