"""Measured figures, one command."""
