"""What is read off one trace: pivots, and the way of its mean hidden state. Pure functions."""
