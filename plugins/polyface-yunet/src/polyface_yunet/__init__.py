"""YuNet for polyface: records in ``plugin``, NumPy arithmetic in ``head``, the PyTorch network in ``net``."""
