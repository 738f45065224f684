"""mainspring keeps a model right: data, training, serving, monitoring and retraining as one loop."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["__version__"]
