"""What an alert stands on: kept as long as it is open, packed with signature for whoever asks for proof."""
