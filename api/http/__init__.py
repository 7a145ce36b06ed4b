"""HTTP building blocks: strict JSON, multipart bodies, pagination and streaming."""
