"""The Parquet writer of polyface."""
