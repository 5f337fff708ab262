"""A model pooled by layers: offers, chains, sessions and the engine that computes."""
