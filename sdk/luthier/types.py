"""Response types under short names. The server's ``/openapi.json`` documents every field."""

from luthier._generated.models.chat_completion import ChatCompletion
from luthier._generated.models.checkpoint_out import CheckpointOut as Checkpoint
from luthier._generated.models.event_out import EventOut as Event
from luthier._generated.models.file_out import FileOut as File
from luthier._generated.models.job_out import JobOut as JobData
from luthier._generated.models.model_out import ModelOut as Model
from luthier._generated.models.text_completion import TextCompletion

__all__ = ["ChatCompletion", "Checkpoint", "Event", "File", "JobData", "Model", "TextCompletion"]
