"""Pure functions: arrays in, arrays out, no I/O, no configuration objects, no globals."""
