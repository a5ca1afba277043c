"""(model, tokens) to small per-token signals, never a layers x heads x T x T tensor."""
