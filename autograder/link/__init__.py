"""Makes the objects of a submission's process usable in the process of its tests.

Nothing is imported here: `peer` and `namespace` are what the two mains use.
"""
