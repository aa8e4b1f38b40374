"""Clothes and looks: who has what, and how it is painted on the body."""
