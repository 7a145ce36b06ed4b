"""One attempt of a job: staging, the training process, its events and its result."""
