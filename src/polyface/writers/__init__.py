"""What becomes of results: each writer is a record and a class."""
