"""Show a picture as a network learns it: on a local page, or in a notebook."""
