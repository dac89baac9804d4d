"""The ONNX Runtime backend of polyface."""
