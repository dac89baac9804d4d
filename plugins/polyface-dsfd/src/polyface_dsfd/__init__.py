"""DSFD for polyface: the record in ``plugin``, NumPy arithmetic in ``head``, the PyTorch network in ``net``."""
