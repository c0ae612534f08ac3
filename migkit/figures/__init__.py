"""Figures: one function each, summarised data and Axes in, the Axes out."""
