"""The ``luthier`` command.

It needs only the standard library, so it is installed with the client without an extra.
"""
