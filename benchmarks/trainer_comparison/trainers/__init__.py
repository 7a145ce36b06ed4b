"""The trainers that are compared: Luthier, TRL and HF ``Trainer``."""
