"""Wire models, model references, errors and validation shared with callers. Imports no torch."""
