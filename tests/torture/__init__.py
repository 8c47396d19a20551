"""The long tier: a service that is killed over and over under load, and an outside checker of what it promised.

`python -m tests.torture --cycles N --seed S`. Nothing here knows more of the service than the wire protocol.
"""
