"""Chat rows, chat templates, and tool calls."""
