"""Tries to end the process that imports it."""

import sys

sys.exit("this plugin exits at import")
