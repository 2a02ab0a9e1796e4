"""A package as another team might have it; afterlens knows nothing of it (docs/external.md)."""
