"""Pixels: reading, geometry, preparing and drawing."""
