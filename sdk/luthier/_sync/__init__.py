# Made by `make sdk` from _async/__init__.py; change that one.
"""The hand-written client. ``luthier/_sync`` is made from it by ``sdk/twins.py``."""
