"""The tests of Écluse."""
