"""What a model has learned, looked at without any data."""
