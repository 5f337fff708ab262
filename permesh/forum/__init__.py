"""Rooms and posts: record kinds, their rules, and the views over them."""
