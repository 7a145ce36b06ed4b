"""What the server takes and answers, a module each."""
