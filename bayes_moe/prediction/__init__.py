"""What a fit says of new rows."""
