"""SCRFD for polyface: records in ``plugin``, NumPy arithmetic in ``head``; the networks are published ONNX files."""
