"""Measurements: image quality against ground truth, and time on this machine (later on phones)."""
