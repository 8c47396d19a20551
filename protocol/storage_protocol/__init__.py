"""What crosses the wire between the storage service, its clients and its subscribers.

SPEC.md beside this package is the normative text; `SPEC 3` in a docstring is its section 3. This package knows
nothing of the service: it imports the standard library, msgpack and msgspec.
"""

PROTOCOL_VERSION = 1
