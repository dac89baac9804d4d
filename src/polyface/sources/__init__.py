"""Where images come from: each source is a record and a class."""
