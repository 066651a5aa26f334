"""What the headers of recordings promise, against what their files hold: read here, decoded elsewhere."""
