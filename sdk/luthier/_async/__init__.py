"""The hand-written client. ``luthier/_sync`` is made from it by ``sdk/twins.py``."""
