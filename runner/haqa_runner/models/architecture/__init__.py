"""What a model is made of, asked of its own class."""
