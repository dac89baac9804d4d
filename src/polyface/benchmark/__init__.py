"""Times of detectors against each other: see :mod:`polyface.benchmark.rounds`."""
