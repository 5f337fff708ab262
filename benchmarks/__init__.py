"""What permesh must reach, measured on real daemons. Never asserted in a test."""
