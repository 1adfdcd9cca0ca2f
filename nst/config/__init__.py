"""Composition, validation and instantiation of the configuration.

``source`` composes the configuration with Hydra, ``hydra_edge`` wraps Hydra's private names, and ``mistakes`` turns
Hydra's errors into readable messages; ``overrides`` writes values in Hydra's grammar. ``schema`` and ``node_schema``
declare the keys, and ``keys`` their roles in a run. ``validation`` checks the keys, ``identity`` derives from them what
a run computes, and ``nodes`` instantiates the objects that they describe.
"""
