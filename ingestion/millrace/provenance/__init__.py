"""What is behind a published cell: models, batches, parts and the keys of source rows."""
