"""One module per step, each only forward."""
