"""How much privacy a training spends: planned before it, recorded during it, stated and checked after it."""
