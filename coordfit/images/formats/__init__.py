"""Picture files: decode, encode, and what each format is trusted with."""
