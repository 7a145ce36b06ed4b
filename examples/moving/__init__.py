"""The same program with OpenAI's package, which also runs against Luthier, and with Luthier's
package.
"""
