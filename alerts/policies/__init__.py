"""Who is told of what: policies, silences, inhibition, reminders."""
