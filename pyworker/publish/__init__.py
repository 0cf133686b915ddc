"""Publishing: from a call of a task to the message in the broker."""
