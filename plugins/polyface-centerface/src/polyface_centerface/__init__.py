"""CenterFace for polyface: the record in ``plugin``, NumPy arithmetic in ``head``, the network in ``weights``."""
