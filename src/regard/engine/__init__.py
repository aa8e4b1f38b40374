"""The engine: one visible training loop, its optimizer, checkpoints and logs, and the evaluation of a model."""
