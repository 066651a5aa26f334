"""What predictions are worth: metrics of clips, of events and of taggers, as HEAR and the papers define them."""
