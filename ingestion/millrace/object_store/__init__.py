"""Where objects are kept, for whoever reads or writes them: buckets and folders."""
