"""Models x tasks x seeds: what is to do, who does it, and the record of what was done."""
