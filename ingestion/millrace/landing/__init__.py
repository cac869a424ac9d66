"""Where extracted rows wait: Parquet parts and a manifest, on S3 or in a folder."""
