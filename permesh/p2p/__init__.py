"""What travels between members: records by gossip and sync, activations over lanes."""
