"""From a name to a graph on this machine."""
