"""What can go wrong with rows and bytes.

StorageError
├── InvalidBlobKey      a key that no server-made name can have (a bug, or an attack)
├── BlobNotFound        no bytes under this key
├── BlobExists          an exclusive write found other bytes under its key
├── BlobCorrupt         the bytes read are not those written
├── StorageUnavailable  database, disk or bucket does not answer; worth another try
├── UnknownUrl          a URL with a scheme that nothing here opens
└── ModelNotPulled      a base model that is listed but absent on this machine
"""

from __future__ import annotations


class StorageError(Exception):
    """Root of the family."""


class InvalidBlobKey(StorageError, ValueError):
    """Keys are made by the server; this one was not."""


class BlobNotFound(StorageError, LookupError):
    """No bytes under this key."""


class BlobExists(StorageError):
    """An exclusive write found other bytes under its key."""


class BlobCorrupt(StorageError):
    """The bytes read do not have the sha256 recorded when they were written."""


class StorageUnavailable(StorageError):
    """Database, disk or bucket does not answer; another try may succeed."""


class UnknownUrl(StorageError, ValueError):
    """The URL's scheme is none that storage opens; the message lists those it does."""


class ModelNotPulled(StorageError, LookupError):
    """The message names the command that fetches the model."""
