"""From the alert to the receiver: the body, the outbox, signatures, the schedule of attempts, the sender."""
