"""One program twice: with OpenAI's package, which also runs against Luthier, and with Luthier's."""
