"""Removal of reflections, shadows, water stains and occlusions by one encoder and two decoders.

Follows a published system; docs/claims.md, section 2, leads from each claimed element to the function here.
"""
