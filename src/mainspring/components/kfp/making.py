"""How a function becomes a component of ours: with the requirements its body has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kfp import dsl

Component = Callable[..., Any]
"""KFP's component: called in a pipeline it gives a task."""


def component(*extras: str, also: tuple[str, ...] = ()) -> Callable[[Component], Component]:
    """Make a lightweight component whose body needs these extras of mainspring, and ``also`` other distributions."""
    named = f"mainspring[{','.join(sorted(extras))}]" if extras else "mainspring"
    made: Callable[[Component], Component] = dsl.component(
        base_image="python:3.11", packages_to_install=[named, *also], install_kfp_package=True
    )
    return made
