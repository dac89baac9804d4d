"""RetinaFace for polyface: records in ``plugin``, NumPy arithmetic in ``head``, PyTorch networks in ``net``."""
