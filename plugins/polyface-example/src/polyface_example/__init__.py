"""The smallest polyface plugin: a toy detector and a toy backend, to copy."""
