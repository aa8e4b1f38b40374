"""Importers: checkpoints of the released networks, brought into ours; a module per origin."""
