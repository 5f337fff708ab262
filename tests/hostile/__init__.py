"""What hostile members and hostile texts may cost, and what they may not bring about."""
