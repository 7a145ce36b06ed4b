"""Our trainer beside those that people use today: same base, rows, LoRA, seed, rate, batch size and threads."""
