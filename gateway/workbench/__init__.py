"""Tools for authors of mappings."""
