"""The ``luthier`` command, on the standard library alone: who installs the client has it, without an extra."""
