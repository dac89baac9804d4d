"""The eager PyTorch backend of polyface, and its export to ONNX."""
