"""Code generation for the client package and its documentation. The wheel does not include it."""
