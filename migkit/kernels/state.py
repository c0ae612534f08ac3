"""The state of a migration: every field once."""

MODEL_VERSION = "1"
