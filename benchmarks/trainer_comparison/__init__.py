"""Comparison of Luthier's trainer with TRL and HF ``Trainer``.

All trainers use the same base, rows, LoRA, seed, learning rate, batch size and threads.
"""
