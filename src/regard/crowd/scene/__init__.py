"""Places: grounds, walls and the things that stand about."""
