"""Self-supervised learning on anyone's own data."""

__version__ = "0.1.0"
