"""A picture as a file of few bits: integer latents on the levels of a pyramid, and laws from their neighbours.

All of it is exact integers, so that a file decodes to the same latents on every machine. What turns latents
into colours is not this package's business.
"""
