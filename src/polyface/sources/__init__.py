"""Where the items of a job come from."""
