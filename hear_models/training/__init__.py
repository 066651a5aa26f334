"""Pretraining by recipes: features of a corpus, crops, one loop."""
