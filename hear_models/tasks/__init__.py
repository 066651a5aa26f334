"""Task folders: read, checked, resampled, made."""
