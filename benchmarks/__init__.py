"""Measurements: image quality against ground truth, and time on this machine or on a connected phone."""
