"""From records to a table: intervals, ties, the aggregate, published figures, and how it is shown."""
