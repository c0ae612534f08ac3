"""Figures: one function each; it takes summarised data and an Axes, and returns the Axes."""
