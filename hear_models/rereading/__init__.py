"""Re-reading what this program wrote, against the digests that it wrote beside it."""
