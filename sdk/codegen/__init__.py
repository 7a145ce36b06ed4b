"""How the package is made from the server's OpenAPI document; none of this is in the wheel."""
