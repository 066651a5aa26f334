"""Who speaks: losses that tell speakers apart, trial lists, scores of pairs, and the figures made from them."""
