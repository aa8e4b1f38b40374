"""Families of backbones whose stages are not a plain row of modules, a file each."""
