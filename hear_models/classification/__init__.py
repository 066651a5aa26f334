"""From labelled recordings to a classifier: embeddings, a linear probe, honest figures, one safe file."""
