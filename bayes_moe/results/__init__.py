"""Draws and modes as a DataTree, saved and relabelled."""
