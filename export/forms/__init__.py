"""Other forms of an integer graph: bit-exact on any interpreter, or with two weights in a byte."""
