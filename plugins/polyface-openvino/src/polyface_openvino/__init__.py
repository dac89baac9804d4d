"""The OpenVINO backend of polyface."""
