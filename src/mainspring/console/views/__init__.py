"""What each page shows, as structs: the templates render them, the JSON twins are them."""

from __future__ import annotations
