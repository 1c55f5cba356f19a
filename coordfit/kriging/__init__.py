"""Hidden pixels from known ones by local kriging, without training."""

from .filling import Filling, fill_hidden

__all__ = ["Filling", "fill_hidden"]
