"""Accuracy on a data set, by the data set's own protocol."""
