"""HEAR numbers: task data, embeddings, judges, records, statistics and the leaderboard."""
