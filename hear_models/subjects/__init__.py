"""The model that was named: one of ours or any HEAR module, its identity, and the code behind it."""
