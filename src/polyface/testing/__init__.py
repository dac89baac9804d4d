"""Help for the tests of polyface and of its plugins; needs pytest.

``pytest_plugins = ["polyface.testing.plugin"]`` turns it on.
"""
