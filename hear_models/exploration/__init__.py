"""What recordings are like: which sound alike, and where each lies among the others."""
