"""Figures: what a network looks at, drawn for people and for papers."""
