"""Errors of the database, the blob store and the model registry.

StorageError
├── InvalidBlobKey      a key that the server never creates (a bug, or an attack)
├── BlobNotFound        no blob under this key
├── BlobExists          an exclusive write found different bytes under its key
├── BlobCorrupt         the bytes read are not those written
├── StorageUnavailable  database, disk or bucket does not respond; a retry may succeed
├── UnknownUrl          a URL with an unsupported scheme
└── ModelNotPulled      a base model that is listed but missing on this machine
"""

from __future__ import annotations


class StorageError(Exception):
    """Base class of storage errors."""


class InvalidBlobKey(StorageError, ValueError):
    """The key is not one that the server creates."""


class BlobNotFound(StorageError, LookupError):
    """There is no blob under this key."""


class BlobExists(StorageError):
    """An exclusive write found different bytes under its key."""


class BlobCorrupt(StorageError):
    """The bytes read do not have the sha256 recorded when they were written."""


class StorageUnavailable(StorageError):
    """The database, disk or bucket does not respond. A retry may succeed."""


class UnknownUrl(StorageError, ValueError):
    """The URL's scheme is not supported. The message lists the supported ones."""


class ModelNotPulled(StorageError, LookupError):
    """The model is missing on this machine. The message says what to do."""
