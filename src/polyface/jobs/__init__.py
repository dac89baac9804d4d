"""From sources through a stream to writers: the one path of work."""
