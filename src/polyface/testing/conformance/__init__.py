"""The conformance kit: what polyface promises its users, as tests that a plugin's author subclasses.

Each check is a test of a stable name, and the first line of its docstring says why it is made; a failure shows it.
Things named are class attributes; things made are fixtures, which a subclass overrides. The author's guide shows it.
"""
