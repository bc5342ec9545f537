"""The examination of a store and its surroundings, also where the store can't be opened."""

__all__ = ()
