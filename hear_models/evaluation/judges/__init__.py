"""From a folder of embeddings to scores: the released kit, our loop that gives the same bits, and quick looks."""
