"""Why steps cannot be had exactly while a sound goes on, for families that say nothing of their own; without torch."""

LOOKS_AHEAD = "its steps look at whole units, windows or clips, ahead too"
