"""From a model and a task to the folder of embeddings that hear-eval-kit would write."""
