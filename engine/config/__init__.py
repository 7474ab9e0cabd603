"""The configuration: its schema, its checks, and parts made from its nodes."""
