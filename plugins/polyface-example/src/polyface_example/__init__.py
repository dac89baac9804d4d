"""The smallest polyface plugin: a toy detector, a toy backend and a toy writer, to copy."""
