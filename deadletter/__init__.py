"""What could not go: the cause, the evidence, and the way back."""
