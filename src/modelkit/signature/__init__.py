"""What a Model takes and gives, and how rows become tensors."""
